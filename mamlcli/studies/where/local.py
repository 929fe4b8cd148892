"""`--on local` and `--on gpus[:N]`: processes of this machine, which share its cores or have a GPU each."""

from __future__ import annotations

import os

import torch

from mamlcli.common.errors import DeviceError, MamlError
from mamlcli.common.machine import threads_of
from mamlcli.common.processes.pool import VISIBLE, LocalExecutor

# Names of devices of which each process may have its own.
_ANY_GPU = ("auto", "cuda")


def local_executor(num_processes: int) -> LocalExecutor:
    """Return processes of this machine that share its cores."""
    return LocalExecutor(num_processes, num_threads=threads_of(num_processes))


def gpus_here() -> list[str]:
    """Return the GPUs of this machine that are visible here, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def has_several_gpus(device: str) -> bool:
    """Return whether there is more than one GPU for what is computed on a device of this name."""
    return device in _ANY_GPU and len(gpus_here()) > 1


def gpus_executor(number: str, *, device: str, per_gpu: int = 1, jobs: int | None = None) -> LocalExecutor:
    """Return processes that have a GPU each.

    Args:
        number: of GPUs, in digits; empty for all.
        device: what the recipe computes on.
        per_gpu: processes on each GPU.
        jobs: processes in all, at most.

    Raises:
        MamlError: there are not as many GPUs, or the recipe computes elsewhere.
    """
    there = gpus_here()
    if device not in _ANY_GPU:
        got, next_step = f"execution.device={device}", "Leave --device out, or use --on local"
        raise MamlError("--on gpus", expected="execution.device=auto or cuda", got=got, next_step=next_step)
    num_gpus = int(number) if number else len(there)
    if not 1 <= num_gpus <= len(there):
        words = f"{len(there)} GPU{'s' if len(there) != 1 else ''}" if there else "no GPU that torch can use"
        raise DeviceError(
            f"--on gpus{':' * bool(number)}{number}",
            expected="GPUs of this machine",
            got=words,
            next_step=f"Use --on gpus:{len(there)}, or --on local" if there else "Use --on local",
        )
    # The first of each GPU come before the second.
    environments = [{VISIBLE: gpu} for _ in range(per_gpu) for gpu in there[:num_gpus]][:jobs]
    num_processes = len(environments)
    return LocalExecutor(num_processes, num_threads=threads_of(num_processes), environments=environments)
