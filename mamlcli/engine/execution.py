"""Runs tasks: so many at a time (a chunk), in so many threads, on one of three paths; `choice` chooses which.

`loop` is the plain reference: task after task, differentiated by autograd. `batched` maps the per-task function over a
chunk of tasks with `torch.func.vmap`. `explicit` computes a chunk as one tensor, with the derivatives that are written
out in the folder of that name; it is the fastest, and what `auto` takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.func import vmap

from mamlcli.common.errors import MamlError
from mamlcli.engine.explicit.objective import ExplicitObjective, explicit_objective
from mamlcli.engine.graphs import Graphs
from mamlcli.engine.multi_step import StepWeights
from mamlcli.engine.networks import Params
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.engine.threads import thread_pool
from mamlcli.engine.transforms import AroundAnother
from mamlcli.tasks.episodes import Episode

Part = TypeVar("Part")
Result = TypeVar("Result")
Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, Tensor])

# (theta, xi, support_x, support_y, query_x, query_y) of one task -> its outputs.
TaskFunction = Callable[[Params, Params, Tensor, Tensor, Tensor, Tensor], Outputs]


@dataclass(frozen=True)
class Execution:
    """The way in which tasks are run. It is recorded with every run, as sums in another order round differently.

    Attributes:
        path: "loop", "batched" or "explicit".
        chunk: tasks at once; 1 for the loop.
        parallel: chunks at the same time, each in a thread that computes on one core; explicit on the CPU only.
        compile: whether the explicit derivatives go through `torch.compile`.
        graphs: whether meta-gradients are replayed as CUDA graphs, where a recording gives the same (`engine.graphs`).
    """

    path: str = "loop"
    chunk: int = 1
    parallel: int = 1
    compile: bool = False
    graphs: bool = False


@dataclass(frozen=True)
class MetaGradient:
    """A meta-gradient, and the losses and accuracies of the tasks it is of.

    Attributes:
        gradients: of the outer loss averaged over tasks, by name as in `MetaParams.flat`.
        outer_loss: [num_tasks], L_Q(phi_K) of each task, or the weighted sum over steps.
        accuracy: [num_tasks], on the query set at phi_K; NaN for regression.
    """

    gradients: Params
    outer_loss: Tensor
    accuracy: Tensor


def why_unmapped(objective: MetaObjective) -> str | None:
    """Return why the tasks of an objective are computed one by one; None where they can be mapped by vmap."""
    transform = objective.inner.transform
    while isinstance(transform, AroundAnother):
        transform = transform.transform
    return objective.network.unmapped or getattr(transform, "unmapped", None)


def chunks(episode: Episode, execution: Execution) -> Iterator[Episode]:
    """Split a batch of tasks into the chunks that are run at once."""
    for start in range(0, episode.num_tasks, execution.chunk):
        yield episode.tasks(start, min(start + execution.chunk, episode.num_tasks))


def run_chunk(
    function: TaskFunction[Outputs], model: Params, xi: Params, chunk: Episode, execution: Execution
) -> Outputs:
    """Run a per-task function over the tasks of one chunk and stack its outputs along a first dimension."""
    if execution.path != "loop":
        mapped: Outputs = vmap(function, in_dims=(None, None, 0, 0, 0, 0))(model, xi, *chunk.data())
        return mapped
    outputs = [function(model, xi, *(part[i] for part in chunk.data())) for i in range(chunk.num_tasks)]
    if isinstance(outputs[0], Tensor):
        return torch.stack(outputs)
    first, second = zip(*outputs, strict=True)
    return torch.stack(first), torch.stack(second)


def meta_gradients(
    objective: MetaObjective,
    meta_params: Sequence[MetaParams],
    episode: Episode,
    execution: Execution,
    *,
    step_weights: StepWeights | None = None,
    graphs: Graphs | None = None,
) -> list[MetaGradient]:
    """Return, for one run or several, the gradient of the outer loss averaged over the run's own tasks.

    The gradient is with respect to all meta-parameters. A chunk's graph is freed before the next is built. Chunks
    are summed in their order, whatever thread they ran in. Runs differ in their seed alone; a chunk has whole runs
    where they fit into it, so that the tasks of all of them are one tensor. That changes results by rounding only.

    Args:
        objective: the outer loss of one task, the same for all.
        meta_params: the meta-parameters of each run.
        episode: the tasks of the first run, then those of the second, and so on; as many each.
        execution: how to run them; its chunk counts tasks of all runs.
        step_weights: weights of the query losses after each inner step; None for the last alone.
        graphs: replays the meta-gradients of chunks; None computes them.

    Source: Finn et al. 2017, arXiv 1703.03400, algorithm 1, line 8.
    Differs from the source: averaged over tasks, not summed, as in Arnold et al. 2021.
    """
    num_tasks = episode.num_tasks // len(meta_params)
    together = _runs_of_chunk(len(meta_params), num_tasks, execution)
    batch = _MetaBatch(objective, execution, num_tasks, step_weights, graphs)
    if together > 1:
        return _gradients_of_stacks(batch, meta_params, episode, together)
    of_one_run = replace(batch, execution=replace(execution, chunk=min(execution.chunk, num_tasks)))
    return [
        _gradient_of_run(of_one_run, of_run, episode.tasks(i * num_tasks, (i + 1) * num_tasks))
        for i, of_run in enumerate(meta_params)
    ]


@dataclass(frozen=True)
class _MetaBatch:
    """Computes the meta-gradients of chunks of one meta-batch.

    Attributes:
        objective, execution, step_weights, graphs: as in `meta_gradients`.
        num_tasks: of one run, over which its outer losses are averaged.
    """

    objective: MetaObjective
    execution: Execution
    num_tasks: int
    step_weights: StepWeights | None
    graphs: Graphs | None

    def of_chunk(self, flat: Params, chunk: Episode) -> tuple[Sequence[Tensor | None], Tensor, Tensor]:
        """Return (gradients of the sum of outer losses / num_tasks, losses, accuracies) of one chunk."""
        if self.graphs is None:
            return self._computed(flat, chunk, self.step_weights)
        names, num_weights = tuple(flat), len(self.step_weights or ())

        def work(inputs: Sequence[Tensor]) -> list[Tensor | None]:
            values, (support_x, support_y, query_x, query_y, *rest) = inputs[: len(names)], inputs[len(names) :]
            # They change with every iteration: as numbers they would be recorded.
            weights = tuple(rest[0].unbind()) if num_weights else None
            episode = Episode(support_x, support_y, query_x, query_y, truth={})
            gradients, loss, accuracy = self._computed(dict(zip(names, values, strict=True)), episode, weights)
            return [*gradients, loss, accuracy]

        weights = [next(iter(flat.values())).new_tensor(self.step_weights)] if self.step_weights else []
        key = self.objective, self.execution, self.num_tasks, names, num_weights
        *gradients, loss, accuracy = self.graphs(work, [*flat.values(), *chunk.data(), *weights], key)
        assert loss is not None
        assert accuracy is not None
        return gradients, loss, accuracy

    def _computed(
        self, flat: Params, chunk: Episode, step_weights: StepWeights | None
    ) -> tuple[Sequence[Tensor | None], Tensor, Tensor]:
        leaves = {name: value.detach().requires_grad_(True) for name, value in flat.items()}
        tracked = MetaParams.from_flat(leaves)
        with torch.enable_grad():
            loss, accuracy = _outer_loss(self.objective, tracked, chunk, self.execution, step_weights=step_weights)
            gradients = torch.autograd.grad(loss.sum() / self.num_tasks, list(leaves.values()), allow_unused=True)
        return gradients, loss.detach(), accuracy


def _gradient_of_run(batch: _MetaBatch, meta_params: MetaParams, episode: Episode) -> MetaGradient:
    """Return the meta-gradient of one run as a sum over chunks of its tasks."""
    flat = meta_params.flat()
    totals = {name: torch.zeros_like(value) for name, value in flat.items()}
    losses, accuracies = [], []
    of_chunk, execution = partial(batch.of_chunk, flat), batch.execution
    for gradients, loss, accuracy in over_chunks(of_chunk, chunks(episode, execution), execution):
        for total, gradient in zip(totals.values(), gradients, strict=True):
            if gradient is not None:
                total += gradient
        losses.append(loss)
        accuracies.append(accuracy)
    return MetaGradient(totals, torch.cat(losses), torch.cat(accuracies))


def _gradients_of_stacks(
    batch: _MetaBatch, meta_params: Sequence[MetaParams], episode: Episode, together: int
) -> list[MetaGradient]:
    """Return the meta-gradients of runs when each chunk holds `together` of them, with all their tasks."""
    num_tasks = batch.num_tasks
    stacked = _stacked(meta_params)

    def of_runs(first: int) -> list[MetaGradient]:
        last = min(first + together, len(meta_params))
        flat = {name: value[first:last] for name, value in stacked.items()}
        tasks = episode.tasks(first * num_tasks, last * num_tasks)
        by_name, loss, accuracy = batch.of_chunk(flat, tasks)
        gradients = [
            (torch.zeros_like(value) if gradient is None else gradient).unbind()
            for value, gradient in zip(flat.values(), by_name, strict=True)
        ]
        losses, accuracies = (part.view(last - first, num_tasks).unbind() for part in (loss, accuracy))
        return [
            MetaGradient({name: rows[i] for name, rows in zip(flat, gradients, strict=True)}, losses[i], accuracies[i])
            for i in range(last - first)
        ]

    parts = over_chunks(of_runs, range(0, len(meta_params), together), batch.execution)
    return [gradient for part in parts for gradient in part]


def _runs_of_chunk(num_runs: int, num_tasks: int, execution: Execution) -> int:
    """Return how many runs one chunk holds, so that all chunks hold as many or one less."""
    if execution.path != "explicit":
        return 1
    most = max(1, execution.chunk // num_tasks)
    return math.ceil(num_runs / math.ceil(num_runs / most))


def _stacked(meta_params: Sequence[MetaParams]) -> Params:
    flats = [of_run.flat() for of_run in meta_params]
    return {name: torch.stack([flat[name].detach() for flat in flats]) for name in flats[0]}


def _outer_loss(
    objective: MetaObjective,
    meta_params: MetaParams,
    chunk: Episode,
    execution: Execution,
    *,
    step_weights: StepWeights | None,
) -> tuple[Tensor, Tensor]:
    """Return the outer loss and the accuracy of each task of a chunk."""
    if execution.path == "explicit":
        return _explicit(objective, chunk, execution).outer_loss(
            meta_params.model, meta_params.transform, *chunk.data(), step_weights=step_weights
        )
    of_task = partial(objective.outer_loss, step_weights=step_weights)
    return run_chunk(of_task, meta_params.model, meta_params.transform, chunk, execution)


def _explicit(objective: MetaObjective, chunk: Episode, execution: Execution) -> ExplicitObjective:
    explicit = explicit_objective(objective, chunk.support_x.device.type, is_compiled=execution.compile)
    if explicit is None:
        raise MamlError(
            "execution.path",
            expected="auto, batched or loop for this network",
            got="explicit",
            why="It has a layer whose derivatives are not written out",
        )
    return explicit


def trajectories(
    objective: MetaObjective, meta_params: Sequence[MetaParams], episode: Episode, execution: Execution
) -> list[Tensor]:
    """Return each task's scores at every inner step without any graph, for one run or several on the same tasks.

    Returns:
        For each run [num_tasks, num_inner_steps + 1, 4], columns as in `TRAJECTORY_COLUMNS`.
    """
    if len(meta_params) == 1 or execution.path != "explicit":
        return [_trajectory_of_run(objective, of_run, episode, execution) for of_run in meta_params]
    together = replace(execution, chunk=max(1, execution.chunk // len(meta_params)))
    stacked = MetaParams.from_flat(_stacked(meta_params))

    def of_chunk(chunk: Episode) -> Tensor:
        scores = _chunk_trajectory(objective, stacked, _for_each(chunk, len(meta_params)), execution=together)
        return scores.view(len(meta_params), chunk.num_tasks, *scores.shape[1:])

    return list(torch.cat(list(over_chunks(of_chunk, chunks(episode, together), together)), dim=1))


def _trajectory_of_run(
    objective: MetaObjective, meta_params: MetaParams, episode: Episode, execution: Execution
) -> Tensor:
    of_chunk = partial(_chunk_trajectory, objective, meta_params, execution=execution)
    return torch.cat(list(over_chunks(of_chunk, chunks(episode, execution), execution)))


def _for_each(chunk: Episode, num_runs: int) -> Episode:
    """Return the tasks of a chunk once for each run, one run after the other."""
    support_x, support_y, query_x, query_y = (part.repeat(num_runs, *[1] * (part.ndim - 1)) for part in chunk.data())
    return Episode(support_x, support_y, query_x, query_y, truth={})


def _chunk_trajectory(
    objective: MetaObjective, meta_params: MetaParams, chunk: Episode, *, execution: Execution
) -> Tensor:
    with torch.no_grad():
        if execution.path == "explicit":
            return _explicit(objective, chunk, execution).trajectory(
                meta_params.model, meta_params.transform, *chunk.data()
            )
        return run_chunk(objective.trajectory, meta_params.model, meta_params.transform, chunk, execution)


def over_chunks(function: Callable[[Part], Result], parts: Iterable[Part], execution: Execution) -> Iterator[Result]:
    """Yield the results of all chunks in their order; `execution.parallel` of them are computed at a time."""
    parts = list(parts)
    if execution.parallel <= 1 or len(parts) == 1:
        yield from map(function, parts)
        return
    yield from thread_pool(execution.parallel).map(function, parts)
