"""How a batch of tasks is run: one after the other, or in chunks by vmap. The results are the same.

`loop` is the plain reference. `batched` maps the per-task function over a chunk of tasks with `torch.func.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from mamlcli.estimators import MetaObjective, MetaParams
from mamlcli.models import Network, Params, activation_size
from mamlcli.tasks.base import Episode

TaskFunction = Callable[..., tuple[Tensor, ...] | Tensor]


@dataclass(frozen=True)
class Execution:
    """How tasks are run; recorded with every run, because sums in another order round differently.

    Attributes:
        path: "loop" or "batched".
        chunk: tasks in one vmap; 1 for the loop.
    """

    path: str = "loop"
    chunk: int = 1


@dataclass(frozen=True)
class MetaGradient:
    """A meta-gradient and what was seen on the way.

    Attributes:
        gradients: of the outer loss averaged over tasks, by name as in `MetaParams.flat`.
        outer_loss: [num_tasks], L_Q(phi_K) of each task.
        accuracy: [num_tasks], on the query set at phi_K; NaN for regression.
    """

    gradients: Params
    outer_loss: Tensor
    accuracy: Tensor


# What the graph of one task may take, as numbers kept per activation and inner step: an inner step keeps its
# activations for the backward and the double-backward pass. Rough on purpose; it only sets the chunk.
_COPIES_PER_STEP = 8
_BUDGET_BYTES = {"cpu": 2 * 2**30, "cuda": 16 * 2**30}


def choose_execution(
    network: Network, *, num_images: int, num_steps: int, num_tasks: int, device_type: str
) -> Execution:
    """Return what `auto` means: tasks batched, as many at once as fit into a fixed budget of memory.

    The choice depends on shapes and the kind of device alone, never on a measurement, so it is the same on
    every run.

    Args:
        network: the architecture.
        num_images: inputs of one task, support and query.
        num_steps: inner steps whose graph is kept; 0 where there is none (evaluation).
        num_tasks: tasks there are.
        device_type: "cpu" or "cuda".
    """
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    numbers = activation_size(network) * num_images + num_parameters
    per_task = numbers * (num_steps + 1) * _COPIES_PER_STEP * 4
    chunk = _BUDGET_BYTES[device_type] // max(per_task, 1)
    return Execution("batched", int(max(1, min(chunk, num_tasks))))


def chunks(episode: Episode, execution: Execution) -> Iterator[Episode]:
    """Split a batch of tasks into the chunks that are run at once."""
    for start in range(0, episode.num_tasks, execution.chunk):
        yield episode.tasks(start, min(start + execution.chunk, episode.num_tasks))


def run_chunk(
    function: TaskFunction, model: Params, xi: Params, chunk: Episode, execution: Execution
) -> tuple[Tensor, ...] | Tensor:
    """Run a per-task function over the tasks of one chunk and stack its outputs along a first dimension."""
    if execution.path == "batched":
        mapped = vmap(function, in_dims=(None, None, 0, 0, 0, 0))
        return mapped(model, xi, *chunk.data())
    outputs = [function(model, xi, *(part[i] for part in chunk.data())) for i in range(chunk.num_tasks)]
    if isinstance(outputs[0], Tensor):
        return torch.stack(outputs)  # type: ignore[arg-type]
    return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True))


def meta_gradient(objective: MetaObjective, meta: MetaParams, episode: Episode, execution: Execution) -> MetaGradient:
    """Return the gradient of the outer loss, averaged over the tasks, with respect to all meta-parameters.

    One chunk's graph is freed before the next is built.

    Args:
        objective: the outer loss of one task.
        meta: the meta-parameters.
        episode: the tasks.
        execution: how to run them.

    Source: Finn et al. 2017, arXiv 1703.03400, algorithm 1, line 8.
    Differs from the source: averaged over tasks, not summed, as in Arnold et al. 2021.
    """
    leaves = {name: value.detach().requires_grad_(True) for name, value in meta.flat().items()}
    tracked = MetaParams.from_flat(leaves)
    totals = {name: torch.zeros_like(value) for name, value in leaves.items()}
    losses, accuracies = [], []
    for chunk in chunks(episode, execution):
        loss, accuracy = run_chunk(objective.outer_loss, tracked.model, tracked.transform, chunk, execution)
        grads = torch.autograd.grad(loss.sum() / episode.num_tasks, list(leaves.values()), allow_unused=True)
        for total, gradient in zip(totals.values(), grads, strict=True):
            if gradient is not None:
                total += gradient
        losses.append(loss.detach())
        accuracies.append(accuracy)
    return MetaGradient(totals, torch.cat(losses), torch.cat(accuracies))


def trajectories(objective: MetaObjective, meta: MetaParams, episode: Episode, execution: Execution) -> Tensor:
    """Return each task's scores at every inner step, [num_tasks, num_inner_steps + 1, 4], without any graph."""
    with torch.no_grad():
        parts = [
            run_chunk(objective.trajectory, meta.model, meta.transform, chunk, execution)
            for chunk in chunks(episode, execution)
        ]
        return torch.cat(parts)  # type: ignore[arg-type]
