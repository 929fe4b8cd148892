"""Chooses how many tasks are computed at a time, in which threads and on which path, from their shapes alone."""

from __future__ import annotations

import math

from mamlcli.engine.execution import Execution, why_unmapped
from mamlcli.engine.explicit.input_block import TaskInputBlockMean
from mamlcli.engine.explicit.objective import ExplicitObjective, explicit_objective
from mamlcli.engine.objective import MetaObjective
from mamlcli.engine.sizes import activation_size

# What the graph of one task may take, as numbers kept per activation and inner step: an inner step keeps its
# activations for the backward and the double-backward pass. Rough on purpose; it only sets the chunk.
_COPIES_PER_STEP = 8


_BUDGET_BYTES = {"cpu": 2 * 2**30, "cuda": 16 * 2**30, "mps": 2 * 2**30}  # mps has the memory of the CPU


# On the CPU a chunk holds about this many activations and parameters of an inner step: with fewer, threads hand the
# interpreter to and fro more than they compute; with more, a step's numbers leave the core's cache.
_CHUNK_NUMBERS = 2_200_000


# Below this much work of all tasks together (`_work`), handing chunks to threads costs more than it saves: after
# operations so short the threads wait for the interpreter. Measured on networks of 1 to 4 blocks and linear ones: two
# threads gain from 700,000 on, and lose a tenth or more below 460,000.
_WORK_WORTH_THREADS = 600_000


# A block that is a single product, and has no activations after it, is passed over so much less often.
_SHARE_OF_INPUT_BLOCK = 3


def choose_execution(
    objective: MetaObjective,
    *,
    num_support: int,
    num_query: int,
    num_inner_steps: int,
    num_tasks: int,
    device_type: str,
    num_threads: int = 1,
) -> Execution:
    """Return what `auto` means: explicit derivatives where the network is covered, else tasks mapped by vmap.

    The choice depends on shapes, the kind of device and the number of threads, never on a measurement, so it is the
    same on every run. On the CPU each thread has a chunk of its own: one thread on each of two chunks is
    faster than two threads on one chunk after the other, and keeps its pace beside other processes. On CUDA a chunk
    is what fits into a fixed budget of memory.

    Args:
        objective: network and inner loop.
        num_support, num_query: inputs of one task; query inputs as often as their graph is kept.
        num_inner_steps: inner steps whose graph is kept; 0 for none, as in evaluation.
        num_tasks: tasks there are.
        device_type: "cpu", "cuda" or "mps".
        num_threads: threads of the CPU.
    """
    network = objective.network
    if why_unmapped(objective) is not None:
        return Execution("loop", 1)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    activations = activation_size(network)
    numbers = activations * num_support + num_parameters
    per_task = (numbers * num_inner_steps + activations * num_query + num_parameters) * _COPIES_PER_STEP * 4
    chunk = max(1, min(_BUDGET_BYTES[device_type] // max(per_task, 1), num_tasks))
    explicit = explicit_objective(objective, device_type)
    if explicit is None:
        return Execution("batched", int(chunk))
    if device_type != "cpu":
        return Execution("explicit", int(chunk))
    work = _work(explicit, num_support, num_query, numbers) * num_tasks
    parallel = min(num_threads, num_tasks) if work >= _WORK_WORTH_THREADS else 1
    chunk = max(1, min(chunk, _CHUNK_NUMBERS // numbers, math.ceil(num_tasks / parallel)))
    return Execution("explicit", int(chunk), min(parallel, math.ceil(num_tasks / chunk)))


def _work(explicit: ExplicitObjective, num_support: int, num_query: int, numbers: int) -> int:
    """Return the activations and parameters of an inner step of one task, less what its first layer saves of them.

    Args:
        explicit: the objective.
        num_support, num_query: inputs of the two sets.
        numbers: of the step, all layers computed in the ordinary way.
    """
    if explicit.is_in_span(num_support, num_query):
        num_outputs, num_inputs = explicit.adapting.layout.shapes[0]
        return numbers - num_outputs * (num_inputs - num_support)
    first = (explicit.body or explicit.adapting).layers[0]
    return numbers // _SHARE_OF_INPUT_BLOCK if isinstance(first, TaskInputBlockMean) else numbers
