"""How far each layer moves in adaptation, and what adapts when only some layers may move, is measured here.

Functions over (objective, meta-parameters, episodes) that return one value per task, so that intervals can be
shown. `episodes` is any collection that can be gone through more than once: a list, or a `TaskStream`, which draws
its tasks chunk by chunk and so needs no memory for all of them. A layer is a module with parameters: a conv block
(convolution and norm together) or a linear layer, named as in `models`: `body.0`, `head.1`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mamlcli.engine.evaluation import Array, adapted_params, map_tasks
from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import Network, Params
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.tasks.episodes import Episode


def layer_names(network: Network) -> tuple[str, ...]:
    """Return the names of the layers, from input to output."""
    return tuple(dict.fromkeys(layer_of(name) for name in network.parameter_names()))


def layer_of(parameter_name: str) -> str:
    """Return the layer of a parameter: `body.0` for `body.0.conv.weight`."""
    return ".".join(parameter_name.split(".")[:2])


# How far each layer moves ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerMovement:
    """A layer movement says how far each layer moves in adaptation.

    Attributes:
        layers: names, from input to output.
        size: [num_layers], |theta_l|, the Euclidean norm of all parameters of the layer.
        distance: [num_tasks, num_layers], |phi_l - theta_l|; 0 for a layer that may not move.
    """

    layers: tuple[str, ...]
    size: Array
    distance: Array

    @property
    def relative(self) -> Array:
        """Return distance / size, [num_tasks, num_layers]; NaN where a layer is all zeros."""
        return self.distance / np.where(self.size > 0, self.size, math.nan)


def layer_movement(
    objective: MetaObjective, meta: MetaParams, episodes: Iterable[Episode], execution: Execution
) -> LayerMovement:
    """Return how far each layer moves, |phi_l - theta_l| and relative to |theta_l|, for every task.

    Source: the norms that Arnold et al. 2021 and Raghu et al. 2020 (1909.09157) reason with; definitions are ours.
    Differs from the source: Raghu et al. compare representations (CCA); weights are compared here.
    """
    layers = layer_names(objective.network)

    def distances(model: Params, xi: Params, *data: Tensor) -> Tensor:
        adapted = adapted_params(objective, model, xi, *data[:3])
        return _layer_norms(layers, {name: adapted[name] - model[name] for name in model})

    size = _layer_norms(layers, meta.model).detach().cpu().double().numpy()
    return LayerMovement(layers, size, map_tasks(distances, meta, episodes, execution))


def _layer_norms(layers: Sequence[str], tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the Euclidean norm of the tensors of each layer together, [num_layers]."""
    squares = [
        torch.stack([value.square().sum() for name, value in tensors.items() if layer_of(name) == layer]).sum()
        for layer in layers
    ]
    return torch.stack(squares).sqrt()


# Only some layers may move ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartialAdaptation:
    """A partial adaptation has the scores when only some layers may move.

    Attributes:
        part: "lower" or "upper".
        num_layers: i, the layers that may move, counted from the input or from the output.
        layers: their names.
        loss, accuracy: [num_tasks] on query sets at phi_K; accuracy is NaN for regression.
    """

    part: str
    num_layers: int
    layers: tuple[str, ...]
    loss: Array
    accuracy: Array


def partial_adaptation(
    objective: MetaObjective, meta: MetaParams, episodes: Iterable[Episode], execution: Execution
) -> list[PartialAdaptation]:
    """Score the adapted network when only the lower i layers may move, and only the upper i, for i = 0 ... L.

    The meta-parameters stay as they were trained; the inner loop is that of `objective`, restricted to those of
    its parameters that lie in the chosen layers. At i = 0 nothing moves, at i = L all that moved in training.

    Source: freezing layers in the inner loop, Raghu et al. 2020 (1909.09157), section 3.2.
    Differs from the source: they freeze the lower layers only; here each end in turn.
    """
    layers = layer_names(objective.network)
    # Sets of layers that hold the same adapted parameters score the same: each such set is run once.
    scored: dict[tuple[str, ...], Array] = {}
    rows = []
    for part in ("lower", "upper"):
        for num in range(len(layers) + 1):
            chosen = layers[:num] if part == "lower" else layers[len(layers) - num :]
            moving = tuple(name for name in objective.inner.adapted if layer_of(name) in chosen)
            if moving not in scored:
                scored[moving] = _scores_when_moving(objective, meta, episodes, execution, moving)
            loss, right = scored[moving].T
            rows.append(PartialAdaptation(part, num, chosen, loss, right))
    return rows


def _scores_when_moving(
    objective: MetaObjective,
    meta: MetaParams,
    episodes: Iterable[Episode],
    execution: Execution,
    moving: tuple[str, ...],
) -> Array:
    """Return (loss, accuracy) on query sets at phi_K when the named parameters alone may move, [num_tasks, 2]."""
    # With nothing to move, phi_0 is the result; a step needs something to differentiate by.
    inner = replace(objective.inner, adapted=moving) if moving else replace(objective.inner, num_inner_steps=0)
    restricted = MetaObjective(objective.network, inner)

    def scores(model: Params, xi: Params, *data: Tensor) -> Tensor:
        return torch.stack(restricted.outer_loss(model, xi, *data))

    return map_tasks(scores, meta, episodes, execution)


def least_squares(inputs: Tensor, outputs: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Return (matrix, rank): the least-norm minimiser of |inputs @ matrix - outputs|, float64; the inputs' rank.

    Singular values of the inputs that are zero up to rounding in `dtype`, in which they were computed, are left out:
    taken for features (dead or doubled units give such), their noise would be fitted, with enormous weights.

    Args:
        inputs: [n, num_inputs] float64, on the CPU.
        outputs: [n, num_outputs] float64.
        dtype: of the computation that gave the inputs.
    """
    rounding = torch.finfo(dtype).eps * max(inputs.shape)
    fit = torch.linalg.lstsq(inputs, outputs, rcond=rounding, driver="gelsd")
    return fit.solution, int(fit.rank)
