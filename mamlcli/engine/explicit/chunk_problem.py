"""Say what the outputs of a chunk of tasks depend on; give each task its own copy of the meta-parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mamlcli.engine.explicit.flat_transform import FAST
from mamlcli.engine.explicit.layout import Layout
from mamlcli.engine.explicit.network import TaskNetwork
from mamlcli.engine.networks import Params

# The names under which the inner loop carries what the fast weights stand beside.
REST, SUPPORT, QUERY = "other parameters", "support inputs", "query inputs"


@dataclass(frozen=True)
class ChunkProblem:
    """What a chunk's outputs depend on beside the fast weights.

    Attributes:
        network: computes the part that adapts.
        start: phi_0, one vector for each task under the name `FAST`, [num_tasks, num_adapted]; or, where steps are not
            transformed, each parameter under its name, in the order of the network's layout.
        rest: other parameters of the part that adapts, [num_tasks, ...]; may be empty.
        support, query: inputs of that part, prepared.
        num_runs: runs trained together, each with meta-parameters of its own; None where all tasks share them.
    """

    network: TaskNetwork
    start: Params
    rest: Tensor
    support: Tensor
    query: Tensor
    num_runs: int | None

    @property
    def context(self) -> Params:
        """Return what gradients and scores depend on beside the fast weights, by name."""
        return {REST: self.rest, SUPPORT: self.support, QUERY: self.query}

    def values(self, fast: Params, context: Params) -> list[Tensor]:
        """Return all parameters of the part that adapts, as the network takes them."""
        if FAST not in fast:
            return list(fast.values())
        return self.network.layout.views(beside(fast[FAST], context[REST]))


def per_task(layout: Layout, model: Params, num_tasks: int) -> Tensor:
    """Return the parameters as one row per task, [num_tasks, num_parameters]."""
    if not layout.names:
        return next(iter(model.values())).new_empty(num_tasks, 0)
    flat = layout.flat(model)
    return repeated(flat, num_tasks, len(flat) if flat.ndim == 2 else None)


def each_per_task(layout: Layout, model: Params, num_tasks: int) -> list[Tensor]:
    """Return each parameter by itself, [num_tasks, *shape], in the order of a layout."""
    return [
        repeated(value, num_tasks, len(value) if value.ndim > len(shape) else None)
        for value, shape in zip(layout.values(model), layout.shapes, strict=True)
    ]


def beside(fast: Tensor, rest: Tensor) -> Tensor:
    """Return all parameters of the part that adapts, [num_tasks, num_parameters]."""
    return torch.cat([fast, rest], dim=1) if rest.shape[1] else fast


def repeated(value: Tensor, num_tasks: int, num_runs: int | None) -> Tensor:
    """Return a value for each task, [num_tasks, ...], from one for all, or one for each run."""
    if num_runs is None:
        return value.expand(num_tasks, *value.shape)
    return value.repeat_interleave(num_tasks // num_runs, dim=0)
