"""Decides device and threads, and what a recipe's `execution` keys change of how chunks of tasks are chosen."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace

import torch

from mamlcli.common.errors import DeviceError, MamlError
from mamlcli.common.words import first_line
from mamlcli.engine.choice import choose_execution
from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import Network
from mamlcli.engine.objective import MetaObjective
from mamlcli.engine.sizes import activation_size
from mamlcli.engine.threads import are_denormals_flushed, flush_denormals, renew_operation_threads
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ClassKeys, Tasks
from mamlcli.training.graphs import has_graphs
from mamlcli.training.tf32 import tf32_kept
from mamlcli.training.tuned import load_tuned, tuning_key


def resolve_device(name: str) -> torch.device:
    """Return the device of `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` is CUDA where there is one, else the CPU: mps, the GPU of a Mac, is taken only where it is asked for, as
    torch lacks some operations there and no result of ours has been computed on it.

    Raises:
        DeviceError: the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if re.fullmatch(r"cuda(:\d+)?", name):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(name.partition(":")[2] or 0) >= count:
            devices = f"{count} CUDA device{'s' if count != 1 else ''}"
            raise _no_device(name, f"a device of this machine, which has {devices}", last=count - 1)
    elif name not in ("cpu", "mps"):
        raise _no_device(name, "auto, cpu, cuda, cuda:N or mps")
    if name == "mps" and not torch.backends.mps.is_available():
        is_built = torch.backends.mps.is_built()
        why = "a Mac with an Apple GPU and macOS 14 or later" if is_built else "a torch for Macs with an Apple GPU"
        raise _no_device(name, f"a device of this machine; mps needs {why}")
    return torch.device(name)


def _no_device(name: str, expected: str, last: int = -1) -> DeviceError:
    others = "" if last < 0 else ", --device cuda" if last == 0 else f", --device cuda:0 to cuda:{last}"
    next_step = f"Use --device auto{others}, or --device cpu"
    return DeviceError("--device", expected=expected, got=repr(name), next_step=next_step)


def device_and_dtype(recipe: Recipe) -> tuple[torch.device, torch.dtype]:
    """Return where a recipe is computed, and in what precision.

    Raises:
        DeviceError: this machine does not have the device, or the device does not have the precision.
    """
    device = resolve_device(recipe.execution.device)
    if device.type == "mps" and recipe.execution.dtype == "float64":
        raise DeviceError(
            "execution.dtype",
            expected="float32 on mps, which has no float64",
            got="float64",
            next_step="Set execution.dtype=float32, or use --device cpu",
        )
    return device, getattr(torch, recipe.execution.dtype)


def memory_error(recipe: Recipe, how: Execution, error: BaseException) -> MamlError:
    """Return what to say when memory ran out: the keys that set how much is needed, with their present values."""
    values = {"execution.chunk": how.chunk, "inner.steps": recipe.inner.steps, "inner.memory": recipe.inner.memory}
    if how.parallel > 1:
        values["execution.threads"] = how.parallel
    for key in ("width", "depth"):
        if getattr(recipe.model, key, None) is not None:
            values[f"model.{key}"] = getattr(recipe.model, key)
    now = ", ".join(f"{key}={value}" for key, value in values.items())
    remedy = "inner.memory=constant" if recipe.inner.memory == "unrolled" else "a smaller model.width"
    first = "execution.chunk=1" if how.chunk > 1 else "execution.threads=1" if how.parallel > 1 else remedy
    return MamlError(
        "memory",
        expected=f"enough for {now}",
        got=first_line(error),
        next_step=f"Set {first}, then {remedy}, or use another --device",
    )


# How tasks are run ------------------------------------------------------------------------------------------------


def execution_for(
    recipe: Recipe,
    objective: MetaObjective,
    *,
    device: torch.device,
    dtype: torch.dtype,
    num_threads: int,
    num_tasks: int,
    num_steps: int,
) -> Execution:
    """Return how the tasks of a recipe are run.

    What `mamlcli bench --tune` measured for these shapes on this machine comes before what is chosen without
    measuring; keys of the recipe come before both.

    Args:
        recipe: resolved.
        objective: network and inner loop.
        device, dtype: where and in what precision.
        num_threads: of the CPU, for all that is computed at a time.
        num_tasks: tasks there are.
        num_steps: inner steps that keep a graph; 0 for evaluation.
    """
    spec, graphs = recipe.execution, num_steps > 0 and has_graphs(recipe, device)
    if spec.path == "loop":
        return Execution("loop", 1)
    if spec.path == "auto" and spec.chunk is None and num_steps:
        key = tuning_key_for(
            recipe,
            objective.network,
            device=device,
            dtype=dtype,
            num_threads=num_threads,
            num_tasks=num_tasks,
            num_steps=num_steps,
        )
        if (tuned := load_tuned(key)) is not None:
            graphs = graphs and tuned.execution.path == "explicit"
            return replace(tuned.execution, compile=spec.compile is True, graphs=graphs)
    num_kept = min(num_steps, 1) if recipe.inner.memory == "constant" else num_steps
    num_support, num_query = _set_sizes(recipe, num_kept)
    chosen = choose_execution(
        objective,
        num_support=num_support,
        num_query=num_query,
        num_inner_steps=num_kept,
        num_tasks=num_tasks,
        device_type=device.type,
        num_threads=num_threads,
    )
    path = chosen.path if spec.path == "auto" else spec.path
    chunk = chosen.chunk if spec.chunk is None else min(spec.chunk, num_tasks)
    if path != "explicit":
        return Execution(path, chunk)
    return Execution(path, chunk, min(chosen.parallel, math.ceil(num_tasks / chunk)), spec.compile is True, graphs)


def tuning_key_for(
    recipe: Recipe,
    network: Network,
    *,
    device: torch.device,
    dtype: torch.dtype,
    num_threads: int,
    num_tasks: int,
    num_steps: int,
) -> str:
    """Return the key under which `mamlcli bench --tune` keeps what it measured for such meta-batches."""
    inner = recipe.inner.model_dump(mode="json")
    if recipe.outer.multi_step_loss:
        inner["multi_step_loss"] = True  # the query set passes at every step
    return tuning_key(
        network,
        inner=inner,
        num_inputs=_num_inputs(recipe.tasks, recipe.tasks.shots + recipe.tasks.queries),
        num_tasks=num_tasks,
        num_steps=num_steps,
        device=device,
        dtype=dtype,
        threads=num_threads,
    )


def _set_sizes(recipe: Recipe, num_kept_steps: int) -> tuple[int, int]:
    """Return the inputs of support and query set as they pass the network, of tasks that are scored or trained on.

    Args:
        recipe: resolved.
        num_kept_steps: inner steps whose graph is kept at a time; 0 for tasks that are scored.
    """
    is_scored = num_kept_steps == 0
    tasks = recipe.scored_tasks if is_scored else recipe.tasks
    num_support, num_query = (_num_inputs(tasks, number) for number in (tasks.shots, tasks.queries))
    if is_scored and recipe.evaluation.batch_norm == "support":
        num_query += num_support  # they pass it together
    if recipe.outer.multi_step_loss and not is_scored:
        num_query *= num_kept_steps  # the query set passes at every step
    return num_support, num_query


def _num_inputs(tasks: Tasks, number: int) -> int:
    """Return the inputs of one task for a number that image tasks give per class."""
    return number * tasks.ways if isinstance(tasks, ClassKeys) else number


# Threads ----------------------------------------------------------------------------------------------------------

# Below this many activations of a meta-batch, threads cost more to wake than they compute.
_SMALL_ACTIVATIONS = 1_000_000


# (threads there were, threads of one operation) as last set here: a second experiment in this process has as many.
_shared: tuple[int, int] | None = None


def _available_threads() -> int:
    """Return the threads that there were before an experiment here set fewer."""
    now = torch.get_num_threads()
    return _shared[0] if _shared is not None and _shared[1] == now else now


def use_threads(of_one_operation: int) -> None:
    """Let as many threads of this process share one operation; numbers too small to matter are taken as zero."""
    global _shared
    available = _available_threads()
    flush_denormals()
    torch.set_num_threads(of_one_operation)
    _shared = (available, of_one_operation) if of_one_operation < available else None


def threads_for(recipe: Recipe, device: torch.device) -> int:
    """Return the threads of the CPU for all that an experiment computes at a time."""
    return 1 if device.type != "cpu" else recipe.execution.threads or _available_threads()


def threads_of_one_operation(recipe: Recipe, network: Network, how: Execution, num_threads: int) -> int:
    """Return how many threads should share one operation on the CPU.

    On the explicit path that is one, as each thread has a chunk of tasks of its own; it is one for models so small,
    too, that threads would only wait for each other.

    Args:
        recipe, network: what is computed.
        how: how its tasks are run.
        num_threads: for all that is computed at a time.
    """
    num_inputs = _num_inputs(recipe.tasks, recipe.tasks.shots + recipe.tasks.queries)
    size = activation_size(network) * num_inputs * recipe.outer.tasks
    is_small = recipe.execution.threads is None and size < _SMALL_ACTIVATIONS
    return 1 if how.path == "explicit" or is_small else num_threads


# Variables with these beginnings are set by packages that a run uses, as torch does when it compiles.
_SET_BY_PACKAGES = ("TORCH", "TRITON", "MPL")

_is_guest: ContextVar[bool] = ContextVar("is_guest", default=False)


def is_guest() -> bool:
    """Return whether this process is another program's, which called a function of `mamlcli.api`."""
    return _is_guest.get()


@contextmanager
def process_kept() -> Iterator[None]:
    """Leave the process as it was before the block: its threads, how they take tiny numbers, TF32, its environment.

    What else of a process a run could change, it does not: see docs/python.md. In the block gradients are computed, and
    tensors are made on the CPU by default, whatever the caller has set.
    """
    global _shared
    threads, is_flushing, shared = torch.get_num_threads(), are_denormals_flushed(), _shared
    environment = _set_by_packages()
    token = _is_guest.set(True)
    try:
        with torch.inference_mode(False), torch.enable_grad(), _on_cpu_by_default(), tf32_kept():
            yield
    finally:
        _is_guest.reset(token)
        torch.set_num_threads(threads)
        _shared = shared
        if are_denormals_flushed() != is_flushing:
            torch.set_flush_denormal(is_flushing)
            renew_operation_threads()
        for name in _set_by_packages().keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


def _on_cpu_by_default() -> AbstractContextManager[object]:
    # Only where it changes something: every call of torch goes through this context.
    # A tensor is asked, as torch.get_default_device of 2.6 does not know of `with torch.device(...)`.
    return torch.device("cpu") if torch.empty(0).device.type != "cpu" else nullcontext()


def _set_by_packages() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_SET_BY_PACKAGES)}
