"""This module checks tensors that a program hands to a trained run, and brings them to its device and precision."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mamlcli.common.errors import MamlError
from mamlcli.deploy.classifier import as_inputs, support_classifier
from mamlcli.engine.networks import Network
from mamlcli.engine.objective import MetaParams
from mamlcli.training.experiment import Experiment


@dataclass(frozen=True)
class Prediction:
    """What was predicted for query images.

    Attributes:
        classes: of image folders the names of the class folders; of tensors "0", "1", ...
        probabilities: [num_query, num_classes] float64 on the CPU.
        report: of image folders all that `mamlcli adapt --support --query --json` prints: accuracy, leave-one-out
            accuracy, warnings, skipped files; None for tensors.
    """

    classes: tuple[str, ...]
    probabilities: Tensor
    report: dict[str, Any] | None = None

    @property
    def indices(self) -> Tensor:
        """The most probable class of each query image, [num_query] int64."""
        return self.probabilities.argmax(dim=-1)

    @property
    def names(self) -> list[str]:
        """The name of the most probable class of each query image."""
        return [self.classes[index] for index in self.indices.tolist()]


def network_with(network: Network, params: Mapping[str, Tensor]) -> Network:
    """Return a copy of a network with these parameters, in evaluation mode, which shares no memory with them."""
    module = copy.deepcopy(network)
    for name, value in params.items():
        parent, _, last = name.rpartition(".")
        setattr(module.holder.get_submodule(parent), last, nn.Parameter(value.detach().clone()))
    return module.eval() if network.is_split else module  # one that was given stays in its mode


def checked_inputs(experiment: Experiment, x: Tensor, where: str) -> Tensor:
    """Return inputs on the experiment's device in its precision.

    Args:
        experiment: of a trained run.
        x: [n, *input_shape] float, or uint8 for images of 0 to 255, which are scaled to [0, 1].
        where: the first word of the message.

    Raises:
        MamlError: another shape or type.
    """
    input_shape = experiment.network.input_shape
    if not isinstance(x, Tensor) or x.ndim == 0 or tuple(x.shape[1:]) != input_shape or not len(x):
        shape = ", ".join(map(str, input_shape))
        raise MamlError(where, expected=f"a tensor [n, {shape}]", got=_described(x))
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise MamlError(where, expected="float, or uint8 for images of 0 to 255", got=str(x.dtype))
    return as_inputs(x, experiment.dtype).to(experiment.device, experiment.dtype)


def checked_support(experiment: Experiment, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return a support set on the experiment's device, inputs in its precision.

    Args:
        experiment: of a trained run.
        x: [num_support, *input_shape], as in `checked_inputs`.
        y: [num_support] int64, outputs of the network, or any from 0 where all outputs start the same; of regression
            [num_support] or [num_support, 1] float.

    Raises:
        MamlError: another shape or type, or a class that is no output.
    """
    inputs = checked_inputs(experiment, x, "support_x")
    if experiment.recipe.is_classification:
        return inputs, _checked_classes(experiment, y, len(inputs)).to(inputs.device)
    if not isinstance(y, Tensor) or not y.is_floating_point() or y.numel() != len(inputs) or y.ndim > 2:
        raise MamlError("support_y", expected=f"float targets [{len(inputs)}] or [{len(inputs)}, 1]", got=_described(y))
    return inputs, y.reshape(-1, 1).to(inputs)


def adapted_network(
    experiment: Experiment, meta: MetaParams, support_x: Tensor, support_y: Tensor, *, num_steps: int
) -> Network:
    """Return a copy of the network adapted to a support set by the inner loop.

    Where all outputs start the same (inner.head=zero or shared), it has as many outputs as there are classes,
    which must then be numbered without a gap.

    Raises:
        MamlError: as `checked_support`; a gap; or the inner loop diverged.
    """
    where = "mamlcli.adapt"
    x, y = checked_support(experiment, support_x, support_y)
    if experiment.recipe.is_classification and experiment.ways_of_meta is None:
        _check_numbered(y)
        experiment = experiment.for_ways(max(2, int(y.max()) + 1), where=where)
    objective = experiment.objective(num_steps)
    fast = objective.fast_weights(meta.model, meta.transform, x, y)
    diverged = [name for name, value in fast.items() if not value.isfinite().all()]
    if diverged:
        got = f"an inner loop that diverged ({diverged[0]})"
        next_step = "Use fewer steps, or inputs like those of the run"
        raise MamlError(where, expected="finite weights", got=got, next_step=next_step)
    return network_with(experiment.network, {**objective.start(meta.model), **fast})


def class_probabilities(
    experiment: Experiment,
    meta: MetaParams,
    support: tuple[Tensor, Tensor],
    query: Tensor,
    *,
    num_steps: int,
    is_joint: bool,
) -> Tensor:
    """Return the probability of each class for each query input, [num_query, num_classes] float64 on the CPU.

    Args:
        experiment: of a trained run.
        meta: its theta and xi.
        support: as in `checked_support`, with every class 0 ... num_classes - 1.
        query: as in `checked_inputs`.
        num_steps: inner steps.
        is_joint: whether batch norm takes the statistics of support and query together.

    Raises:
        MamlError: a run that does not classify, other tensors, or an inner loop that diverged.
    """
    where = "mamlcli.predict"
    if not experiment.recipe.is_classification:
        got, next_step = f"one of {experiment.recipe.tasks.source}", "Use mamlcli.adapt(run, x, y)(query_x)"
        raise MamlError(where, expected="a run that classifies", got=got, next_step=next_step)
    x, y = checked_support(experiment, *support)
    _check_numbered(y)
    num_classes = int(y.max()) + 1
    classifier = support_classifier(
        experiment, meta, num_classes, num_steps=num_steps, is_joint=is_joint, where="support_y"
    )
    probabilities = classifier.classify(x, y, checked_inputs(experiment, query, "query")).cpu().double()
    if not probabilities.isfinite().all():
        got, next_step = "an inner loop that diverged", "Use fewer steps"
        raise MamlError(where, expected="finite probabilities", got=got, next_step=next_step)
    return probabilities


def _check_numbered(y: Tensor) -> None:
    """Raise a MamlError unless classes are numbered from 0 without a gap, and are at least two."""
    there = sorted(set(y.tolist()))
    missing = next((i for i, number in enumerate(there) if number != i), None)
    if missing is not None or len(there) < 2:
        got = "class 0 alone" if missing is None else f"none of class {missing}"
        raise MamlError("support_y", expected="classes numbered from 0 without a gap, at least two", got=got)


def _checked_classes(experiment: Experiment, y: Tensor, num_support: int) -> Tensor:
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (num_support,):
        raise MamlError("support_y", expected=f"int64 classes [{num_support}]", got=_described(y))
    num_outputs = experiment.network.num_outputs
    reason = experiment.ways_of_meta
    if int(y.min()) < 0 or (int(y.max()) >= num_outputs and reason is not None):
        expected = "classes from 0" if reason is None else f"classes from 0 to {num_outputs - 1}, the run's outputs"
        why = None if int(y.min()) < 0 else reason
        raise MamlError("support_y", expected=expected, got=f"{int(y.min())} to {int(y.max())}", why=why)
    return y


def _described(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else repr(type(value).__name__)
