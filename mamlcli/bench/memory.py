"""This module measures how much memory a meta-gradient takes, each time in a fresh process."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from mamlcli.bench.cases import Case, problem_of
from mamlcli.bench.implementations import Implementation, timed
from mamlcli.common.machine import peak_memory_mb, synchronize
from mamlcli.common.processes.jobs import IsStopped, Job
from mamlcli.common.processes.pool import LocalExecutor, run_jobs
from mamlcli.training.placement import resolve_device


@dataclass(frozen=True)
class MemoryRequest:
    """Says which meta-gradient to compute: prepared on `all_threads` threads, computed on `threads` threads."""

    case: Case
    implementation: Implementation
    device: str
    all_threads: int
    threads: int


@dataclass(frozen=True)
class Memory:
    """Holds the peak memory of a fresh process that computes one meta-gradient, in MB.

    On CUDA it is of torch's allocator on the device.

    Attributes:
        peak_mb: all of it, interpreter and torch included; None where the system does not tell.
        baseline_mb: the same process's peak when everything was done but the meta-gradient.
        failure: a line where the process ended otherwise, as one does that the system kills for lack of memory.
    """

    peak_mb: float | None = None
    baseline_mb: float | None = None
    failure: str | None = None


def measure_memory(request: MemoryRequest) -> Memory:
    """Compute one meta-gradient in a fresh process and return how much memory that took."""
    job = Job("memory", memory_job, {"request": request}, can_stop=False)
    outcome = run_jobs([job], executor=LocalExecutor(1), max_attempts=1)["memory"]
    return Memory(**outcome.value) if isinstance(outcome.value, dict) else Memory(failure=outcome.reason)


def memory_job(payload: dict[str, MemoryRequest], is_stopped: IsStopped) -> dict[str, float | None]:
    """Compute one meta-gradient in this process and return its peak memory before and after, as in `Memory`."""
    request = payload["request"]
    torch.set_num_threads(request.all_threads)
    device = resolve_device(request.device)
    problem = problem_of(request.case, device=request.device, extra=request.implementation.extra)
    function = timed(request.implementation, problem)
    torch.set_num_threads(request.threads)
    before = process_peak_mb(device)
    function()
    synchronize(device)
    return {"peak_mb": process_peak_mb(device), "baseline_mb": before}


def process_peak_mb(device: torch.device, status: Path = Path("/proc/self/status")) -> float | None:
    """Return the peak memory of this process so far, or of the device on CUDA.

    Read from VmHWM where the system has it: `ru_maxrss` of a child on Linux starts with the peak of its parent.
    """
    if device.type == "cpu" and sys.platform == "linux" and status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 2**10, 1)
    return peak_memory_mb(device)
