"""This module holds what a peer of `mamlcli bench` is given: the tensors and settings of one problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mamlcli.tasks.episodes import Episode

Params = dict[str, Tensor]

MetaGradientFunction = Callable[[], Params]

# (support_x, support_y, query_x, query_y) of one task.
Task = tuple[Tensor, Tensor, Tensor, Tensor]

# The tasks of a meta-batch -> the meta-gradient, in the order of the leaves.
GradientsOfTasks = Callable[[Sequence[Task]], Sequence[Tensor]]

# Tasks -> their scores at every inner step, [num_tasks, num_steps + 1, 4], columns as in `TRAJECTORY_COLUMNS`.
ScoresOfTasks = Callable[[Sequence[Task]], Tensor]


@dataclass(frozen=True)
class PeerProblem:
    """Holds the tensors and settings that a peer is given: those that mamlcli gets.

    Attributes:
        theta: parameters of the network by our names, in the order of the layers.
        xi: Kronecker factors of linear Meta-KFO by our names; empty in MAML.
        episode: the tasks, with class indices as labels.
        lr: inner learning rate, alpha.
        num_steps: inner steps, K.
        stride: of every convolution.
        head_only: whether the inner loop moves the head alone (ANIL), on features of support and query set together.
    """

    theta: Params
    xi: Params
    episode: Episode
    lr: float
    num_steps: int
    stride: int = 1
    head_only: bool = False

    def tasks(self) -> list[Task]:
        """Return (support_x, support_y, query_x, query_y) of each task, a list that is made once."""
        data = self.episode.data()
        return [(data[0][i], data[1][i], data[2][i], data[3][i]) for i in range(self.episode.num_tasks)]

    def leaves(self) -> tuple[Params, Params]:
        """Return theta and xi as leaves that require grad."""
        return as_leaves(self.theta), as_leaves(self.xi)

    def adapted(self) -> list[str]:
        """Return the names of the parameters that the inner loop moves."""
        return [name for name in self.theta if name.startswith("head.") or not self.head_only]

    def flat_names(self) -> list[str]:
        """Return the names of the meta-gradient's tensors, as in `MetaParams.flat`."""
        return [*(f"model/{name}" for name in self.theta), *(f"transform/{name}" for name in self.xi)]


def as_leaves(tensors: Params) -> Params:
    """Return copies that require grad."""
    return {name: value.detach().clone().requires_grad_() for name, value in tensors.items()}


def stacked(tasks: Sequence[Task]) -> list[Tensor]:
    """Return the four tensors of tasks, each with a first dimension of tasks."""
    return [torch.stack(parts) for parts in zip(*tasks, strict=True)]
