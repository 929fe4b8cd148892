"""This module adapts a meta-trained network to a user's support set and classifies query images.

A user's images bring what evaluation never meets: fewer classes than the head has outputs, or more, unequal shots, and
a single query image. `SupportClassifier` says how each is handled, `support_classifier` how many classes there may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from mamlcli.engine.execution import why_unmapped
from mamlcli.engine.inner_loop import adapt
from mamlcli.engine.networks import BatchStatisticsNorm, Params, apply_network
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.engine.support_statistics import with_statistics_of_first
from mamlcli.training.experiment import Experiment

# Assignments of classes to outputs that are averaged; more cost time and were not measured.
MAX_ASSIGNMENTS = 5

# Query images that go through the network at once, where no prediction depends on another image.
QUERY_CHUNK = 256

# Is called with the number of images done since the last call.
Advance = Callable[[int], None]


@dataclass(frozen=True)
class SupportClassifier:
    """Classifies images by a few examples of each class, with a meta-trained network.

    Which class belongs to which output is arbitrary: meta-training draws it anew for every task. So the inner loop is
    run for several assignments, the classes shifted along the outputs, and the probabilities are averaged; the answer
    then hardly depends on the order of the classes. With as many assignments as outputs it does not depend on cyclic
    shifts at all. Glyphs, 5-way 1-shot, 150 test tasks: 91.8 % with one assignment, 93.8 % with five.

    Fewer classes than outputs: in the inner loop and in the prediction alike, the softmax is over the outputs that
    have a class; the others play no part. (All outputs in the inner loop: no difference, 98.1 % of glyphs both ways,
    2-way.) Where all outputs start the same (inner.head=zero or shared), `support_classifier` gives the network as many
    outputs as there are classes, and one assignment, since another would only permute the answer.

    Unequal shots: each class has the same weight in the support loss, as in meta-training, whatever its number of
    images (1, 1, 1, 5 and 5 glyphs: 94.7 %; each image the same weight: 90.8 %).

    Batch norm by batch statistics cannot be used on one query image alone (accuracy falls to chance). Here the query
    images are normalised with the statistics of the support images, at the fast weights, so that each prediction
    depends on its own image and the support set only. With `is_joint`, support and query images are one batch; this
    is nearer to meta-training, and more accurate where the query images are many and of all classes (95.2 %), far less
    where they are of one class (80.0 %; 93.9 % without), and each prediction depends on all query images.

    Attributes:
        objective: network and inner loop, the number of inner steps included; its theta is phi_0
            (`MetaObjective.with_learned_head`).
        meta: the meta-parameters.
        is_joint: whether batch norm takes the statistics of support and query images together.
        num_assignments: at most so many assignments are averaged.

    Source: Finn et al. 2017, arXiv 1703.03400, algorithm 2, lines 5 to 8, for one task.
    Differs from the source: the assignments, the outputs left out, the weights of classes, the statistics of batch
    norm, as above. With `inner.joint_features`, too, the inner loop sees the support images alone.
    """

    objective: MetaObjective
    meta: MetaParams
    is_joint: bool = False
    num_assignments: int = MAX_ASSIGNMENTS

    @property
    def num_outputs(self) -> int:
        return self.objective.network.num_outputs

    @property
    def has_batch_statistics(self) -> bool:
        """Whether the network normalises an image by others of its batch."""
        return any(isinstance(module, BatchStatisticsNorm) for module in self.objective.network.modules())

    @torch.no_grad()
    def classify(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, *, advance: Advance | None = None
    ) -> Tensor:
        """Return the probability of each class for each query image, [num_query, num_classes].

        Args:
            support_x: [num_support, *input_shape] float in [0, 1].
            support_y: [num_support] int64, every class 0 ... num_classes - 1 at least once, at most `num_outputs`.
            query_x: [num_query, *input_shape] uint8, or float in [0, 1].
            advance: is called with the number of query images done since the last call.
        """
        outputs = assignments(int(support_y.max()) + 1, self.num_outputs, self.num_assignments).to(support_y.device)
        fast = self._fast_weights(support_x, support_y, class_weights(support_y), outputs)
        parts = []
        for chunk in [query_x] if self.is_joint else torch.split(query_x, QUERY_CHUNK):
            inputs = as_inputs(chunk, support_x.dtype)
            logits = torch.stack([self._query_outputs(phi, support_x, inputs)[:, chosen] for phi, chosen in fast])
            parts.append(logits.softmax(dim=-1).mean(dim=0))
            if advance is not None:
                advance(len(chunk))
        return torch.cat(parts)

    @torch.no_grad()
    def leave_one_out(
        self, support_x: Tensor, support_y: Tensor, indices: list[int], *, advance: Advance | None = None
    ) -> Tensor:
        """Return the probability of each class for support images that are left out one at a time.

        Args:
            support_x, support_y: as in `classify`.
            indices: the images to leave out, each of a class that has another.
            advance: is called with 1 after each.

        Returns:
            [len(indices), num_classes].
        """
        rows = []
        for index in indices:
            others = torch.arange(len(support_y), device=support_y.device) != index
            rows.append(self.classify(support_x[others], support_y[others], support_x[index : index + 1]))
            if advance is not None:
                advance(1)
        return torch.cat(rows)

    def _fast_weights(self, x: Tensor, y: Tensor, weights: Tensor, outputs: Tensor) -> list[tuple[Params, Tensor]]:
        """Return the fast weights of each assignment, with the outputs of its classes."""
        run = partial(adapt_to_support, self.objective, self.meta, x, y, weights)
        if why_unmapped(self.objective) is not None:
            return [(run(chosen), chosen) for chosen in outputs]
        fast = vmap(run)(outputs)
        return [({name: value[row] for name, value in fast.items()}, chosen) for row, chosen in enumerate(outputs)]

    def _query_outputs(self, fast: Params, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Return the outputs of query images at fast weights, [num_query, num_outputs]."""
        network, params = self.objective.network, {**self.meta.model, **fast}
        if not self.has_batch_statistics:
            return apply_network(network, params, query_x)
        joined = torch.cat([support_x, query_x])
        used = network if self.is_joint else with_statistics_of_first(network, len(support_x))
        return apply_network(used, params, joined)[len(support_x) :]


def support_classifier(
    experiment: Experiment, meta: MetaParams, num_classes: int, *, num_steps: int, is_joint: bool = False, where: str
) -> SupportClassifier:
    """Return the classifier of a trained run for a number of classes.

    Args:
        experiment, meta: of the run.
        num_classes: of the support set. At most as many as the trained outputs; any number where no meta-parameter
            has that number in its shape (`Experiment.ways_of_meta`).
        num_steps: inner steps.
        is_joint: as in `SupportClassifier`.
        where: the first word of the message.

    Raises:
        MamlError: more classes than the meta-parameters can have, with the reason.
    """
    is_for_any_ways = experiment.ways_of_meta is None
    if is_for_any_ways or num_classes > experiment.network.num_outputs:
        experiment = experiment.for_ways(num_classes, where=where)
    objective, start = experiment.objective(num_steps).with_learned_head(meta)
    return SupportClassifier(objective, start, is_joint, 1 if is_for_any_ways else MAX_ASSIGNMENTS)


def adapt_to_support(
    objective: MetaObjective, meta: MetaParams, x: Tensor, y: Tensor, weights: Tensor, outputs: Tensor
) -> Params:
    """Return the fast weights for a support set whose classes are some of the outputs.

    L_S(phi) = -sum_i w_i log softmax(f_phi(x_i)[outputs])[y_i]; with equal shots the mean of meta-training.

    Args:
        objective, meta: the network, the inner loop and where it starts.
        x: [num_support, *input_shape] float.
        y: [num_support] int64 classes.
        weights: [num_support] float, w.
        outputs: [num_classes] int64, the output of each class.
    """
    network = objective.network

    def support_loss(fast: Params) -> Tensor:
        logits = apply_network(network, {**meta.model, **fast}, x)[:, outputs]
        return (weights * functional.cross_entropy(logits, y, reduction="none")).sum()

    # Nothing here is differentiated a second time.
    inner = replace(objective.inner, first_order=True)
    return adapt(support_loss, meta.model, meta.transform, inner).fast_weights


def assignments(num_classes: int, num_outputs: int, at_most: int) -> Tensor:
    """Return the outputs of the classes under several cyclic shifts, [num_assignments, num_classes] int64."""
    num = min(num_outputs, at_most)
    shifts = torch.tensor([index * num_outputs // num for index in range(num)])
    return (torch.arange(num_classes) + shifts[:, None]) % num_outputs


def as_inputs(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return images as the network takes them: uint8 ones are scaled to [0, 1], others stay as they are."""
    return images.to(dtype) / 255 if images.dtype == torch.uint8 else images


def class_weights(y: Tensor) -> Tensor:
    """Return a weight for each image, [num_images] float32: every class weighs the same, and all of them 1."""
    counts = torch.bincount(y)
    return 1.0 / (len(counts) * counts[y].float())


def left_out_indices(y: Tensor, at_most: int) -> Iterator[int]:
    """Yield which images to leave out: those whose class has another image, spread evenly where they are too many."""
    counts = torch.bincount(y)
    candidates = [index for index, label in enumerate(y.tolist()) if counts[label] > 1]
    num = min(len(candidates), at_most)
    for position in range(num):
        yield candidates[position * len(candidates) // num]
