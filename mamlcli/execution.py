"""How a batch of tasks is run. The results are the same.

`loop` is the plain reference: task after task, differentiated by autograd. `batched` maps the per-task function over a
chunk of tasks with `torch.func.vmap`. `explicit` computes a chunk as one tensor, with the derivatives of
`task_layers`; it is the fastest, and what `auto` takes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor
from torch.func import vmap

from mamlcli.errors import MamlError
from mamlcli.estimators import MetaObjective, MetaParams
from mamlcli.explicit import ExplicitObjective, explicit_objective
from mamlcli.models import Params, activation_size
from mamlcli.tasks.base import Episode

Result = TypeVar("Result")
TaskFunction = Callable[..., tuple[Tensor, ...] | Tensor]


@dataclass(frozen=True)
class Execution:
    """How tasks are run; recorded with every run, because sums in another order round differently.

    Attributes:
        path: "loop", "batched" or "explicit".
        chunk: tasks at once; 1 for the loop.
        parallel: chunks at the same time, each in a thread that computes on one core; explicit on the CPU only.
        compile: whether the explicit derivatives go through `torch.compile`.
    """

    path: str = "loop"
    chunk: int = 1
    parallel: int = 1
    compile: bool = False


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

# On the CPU a chunk is as large as a core's cache: a step goes over its activations and parameters some twenty times.
_CACHED_NUMBERS = 400_000

# Below this many activations and parameters of all tasks together, handing chunks to threads costs more than it saves.
_NUMBERS_WORTH_THREADS = 150_000


def choose_execution(
    objective: MetaObjective,
    *,
    num_support: int,
    num_query: int,
    num_steps: int,
    num_tasks: int,
    device_type: str,
    num_threads: int = 1,
) -> Execution:
    """Return what `auto` means: explicit derivatives where the network is covered, else tasks mapped by vmap.

    The choice depends on shapes, the kind of device and the number of threads, never on a measurement, so it is the
    same on every run. On the CPU, chunks fit into a core's cache, and each thread has a chunk of its own: one thread
    on each of two tasks is faster than two threads on one task after the other. On CUDA a chunk is what fits into a
    fixed budget of memory.

    Args:
        objective: network and inner loop.
        num_support, num_query: inputs of one task.
        num_steps: inner steps whose graph is kept; 0 where there is none (evaluation, or `inner.memory: constant`).
        num_tasks: tasks there are.
        device_type: "cpu" or "cuda".
        num_threads: threads of the CPU.
    """
    network = objective.network
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    activations = activation_size(network)
    numbers = activations * num_support + num_parameters
    per_task = (numbers * num_steps + activations * num_query + num_parameters) * _COPIES_PER_STEP * 4
    chunk = max(1, min(_BUDGET_BYTES[device_type] // max(per_task, 1), num_tasks))
    if explicit_objective(objective, device_type) is None:
        return Execution("batched", int(chunk))
    if device_type != "cpu":
        return Execution("explicit", int(chunk))
    parallel = min(num_threads, num_tasks) if numbers * num_tasks >= _NUMBERS_WORTH_THREADS else 1
    chunk = max(1, min(chunk, _CACHED_NUMBERS // numbers, math.ceil(num_tasks / parallel)))
    return Execution("explicit", int(chunk), min(parallel, math.ceil(num_tasks / chunk)))


def chunks(episode: Episode, execution: Execution) -> Iterator[Episode]:
    """Split a batch of tasks into the chunks that are run at once."""
    for start in range(0, episode.num_tasks, execution.chunk):
        yield episode.tasks(start, min(start + execution.chunk, episode.num_tasks))


def run_chunk(
    function: TaskFunction, model: Params, xi: Params, chunk: Episode, execution: Execution
) -> tuple[Tensor, ...] | Tensor:
    """Run a per-task function over the tasks of one chunk and stack its outputs along a first dimension."""
    if execution.path != "loop":
        mapped = vmap(function, in_dims=(None, None, 0, 0, 0, 0))
        return mapped(model, xi, *chunk.data())
    outputs = [function(model, xi, *(part[i] for part in chunk.data())) for i in range(chunk.num_tasks)]
    if isinstance(outputs[0], Tensor):
        return torch.stack(outputs)  # type: ignore[arg-type]
    return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True))


def meta_gradient(objective: MetaObjective, meta: MetaParams, episode: Episode, execution: Execution) -> MetaGradient:
    """Return the gradient of the outer loss, averaged over the tasks, with respect to all meta-parameters.

    A chunk's graph is freed before the next is built. Chunks are summed in their order, whatever thread they ran in.

    Args:
        objective: the outer loss of one task.
        meta: the meta-parameters.
        episode: the tasks.
        execution: how to run them.

    Source: Finn et al. 2017, arXiv 1703.03400, algorithm 1, line 8.
    Differs from the source: averaged over tasks, not summed, as in Arnold et al. 2021.
    """
    flat = meta.flat()

    def one(chunk: Episode) -> tuple[Sequence[Tensor | None], Tensor, Tensor]:
        leaves = {name: value.detach().requires_grad_(True) for name, value in flat.items()}
        tracked = MetaParams.from_flat(leaves)
        with torch.enable_grad():
            loss, accuracy = _outer_loss(objective, tracked, chunk, execution)
            gradients = torch.autograd.grad(
                loss.sum() / episode.num_tasks, list(leaves.values()), allow_unused=True
            )
        return gradients, loss.detach(), accuracy

    totals = {name: torch.zeros_like(value) for name, value in flat.items()}
    losses, accuracies = [], []
    for gradients, loss, accuracy in _over_chunks(one, episode, execution):
        for total, gradient in zip(totals.values(), gradients, strict=True):
            if gradient is not None:
                total += gradient
        losses.append(loss)
        accuracies.append(accuracy)
    return MetaGradient(totals, torch.cat(losses), torch.cat(accuracies))


def _outer_loss(
    objective: MetaObjective, meta: MetaParams, chunk: Episode, execution: Execution
) -> tuple[Tensor, Tensor]:
    if execution.path == "explicit":
        return _explicit(objective, chunk, execution).outer_loss(meta.model, meta.transform, *chunk.data())
    loss, accuracy = run_chunk(objective.outer_loss, meta.model, meta.transform, chunk, execution)
    return loss, accuracy


def _explicit(objective: MetaObjective, chunk: Episode, execution: Execution) -> ExplicitObjective:
    found = explicit_objective(objective, chunk.support_x.device.type, is_compiled=execution.compile)
    if found is None:
        raise MamlError("execution.path", expected="auto, batched or loop for this network", got="explicit",
                        why="It has a layer whose derivatives are not written out")  # fmt: skip
    return found


def trajectories(objective: MetaObjective, meta: MetaParams, episode: Episode, execution: Execution) -> Tensor:
    """Return each task's scores at every inner step, [num_tasks, num_inner_steps + 1, 4], without any graph."""

    def one(chunk: Episode) -> Tensor:
        with torch.no_grad():
            if execution.path == "explicit":
                return _explicit(objective, chunk, execution).trajectory(meta.model, meta.transform, *chunk.data())
            return run_chunk(objective.trajectory, meta.model, meta.transform, chunk, execution)  # type: ignore[return-value]

    return torch.cat(list(_over_chunks(one, episode, execution)))


def _over_chunks(function: Callable[[Episode], Result], episode: Episode, execution: Execution) -> Iterator[Result]:
    """Yield the results of all chunks in their order; several at a time where asked."""
    parts = list(chunks(episode, execution))
    if execution.parallel <= 1 or len(parts) == 1:
        yield from map(function, parts)
        return
    yield from _threads(execution.parallel).map(function, parts)


@lru_cache(maxsize=4)
def _threads(number: int) -> ThreadPoolExecutor:
    """Return threads that compute on one core each; they live as long as the process."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(number, thread_name_prefix="chunk", initializer=_one_core_each)
    # All of them start now, on the initializer; what it sets for new threads is taken back after.
    started = Barrier(number)
    list(pool.map(lambda _: started.wait(), range(number)))
    torch.set_num_threads(before)
    return pool


def _one_core_each() -> None:
    torch.set_num_threads(1)


# Of mallopt in glibc: from this size on, an allocation is a mapping of its own, given back when it is freed.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _LARGE = -3, -1, 1_000_000


def give_back_large_blocks() -> bool:
    """Let the C library give large freed blocks back to the system at once; return whether it can.

    Between the small tensors that an inner loop of constant memory keeps, every step makes and frees large ones, and
    glibc, left alone, ends with holes between them that take twice the memory of what is kept. Costs a little time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_TRIM_THRESHOLD, _LARGE))
