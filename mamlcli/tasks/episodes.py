"""Define episodes, the interface of task distributions, and the random generator of each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from mamlcli.common.seeds import key_seed


@dataclass(frozen=True)
class Episode:
    """An episode is the sampled data of a batch of tasks, each with a support set and a query set.

    Attributes:
        support_x: [num_tasks, num_support, *input_shape], float.
        support_y: [num_tasks, num_support] int64 class indices in [0, ways), or [num_tasks, num_support, 1]
            float targets for regression.
        query_x: [num_tasks, num_query, *input_shape], float.
        query_y: [num_tasks, num_query] int64, or [num_tasks, num_query, 1] float.
        truth: what the generator knows of each task and a learner does not, by name, each
            [num_tasks, ...] float64 on the CPU (the true weights of a synthetic task); empty for image tasks.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    truth: dict[str, Tensor]

    @property
    def num_tasks(self) -> int:
        return int(self.support_x.shape[0])

    def data(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (support_x, support_y, query_x, query_y), the part a learner may see."""
        return self.support_x, self.support_y, self.query_x, self.query_y

    def tasks(self, start: int, stop: int) -> Episode:
        """Return tasks `start` to `stop` (exclusive) of the batch, as views."""
        parts = {f.name: getattr(self, f.name)[start:stop] for f in fields(self) if f.name != "truth"}
        return Episode(**parts, truth={name: value[start:stop] for name, value in self.truth.items()})


@dataclass(frozen=True)
class ReferenceScores:
    """Reference scores say how well a floor or baseline does on the query sets, one entry per task.

    Attributes:
        loss: [num_tasks] float64, mean over the query set; None where the method gives no loss.
        accuracy: [num_tasks] float64 in [0, 1]; None for regression.
        doubtful: [num_tasks] float64, 1 where scores come from sampling that did not converge, else 0; None where
            scores are exact.
    """

    loss: Tensor | None
    accuracy: Tensor | None
    doubtful: Tensor | None = None


class TaskDistribution(Protocol):
    """A task distribution draws tasks and scores its references. Implementations hold no random state.

    Attributes:
        input_shape: the shape of one input, as (channels, height, width) or (dimension,).
        num_outputs: outputs of a network for these tasks: ways, or 1 for regression.
        is_classification: whether labels are class indices.
        chance_accuracy: accuracy of guessing, 1 / ways; None for regression.
    """

    @property
    def input_shape(self) -> tuple[int, ...]: ...

    @property
    def num_outputs(self) -> int: ...

    @property
    def is_classification(self) -> bool: ...

    @property
    def chance_accuracy(self) -> float | None: ...

    def sample(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw one task per generator (CPU generators, one each) and return them as a batch."""
        ...

    def references(self, episode: Episode) -> dict[str, ReferenceScores]:
        """Score the floors and baselines that this distribution knows, by name."""
        ...


def task_generator(seed: int, split: str, iteration: int, index: int) -> torch.Generator:
    """Return the generator of task `index` of iteration `iteration` of a split.

    The same four values give the same task on every machine, whatever was drawn before, so resumed runs, other
    chunk sizes and other numbers of workers see the same tasks.

    Args:
        seed: the run's seed, or `evaluation.seed` for evaluation tasks.
        split: "train", "validation" or "test"; any string names a stream of its own.
        iteration: outer-loop iteration, from 0.
        index: position of the task in the meta-batch, from 0.

    Returns:
        A CPU torch.Generator.
    """
    return torch.Generator().manual_seed(key_seed(seed, split, iteration, index))


def sample_tasks(
    distribution: TaskDistribution, *, seed: int, split: str, iteration: int, indices: Sequence[int]
) -> Episode:
    """Draw the tasks of the given indices of one iteration as one batched episode."""
    return distribution.sample([task_generator(seed, split, iteration, index) for index in indices])
