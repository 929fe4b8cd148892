"""This module measures the time of meta-gradients, in rounds in which all implementations take turns."""

from __future__ import annotations

import dataclasses
import gc
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mamlcli.bench.implementations import Implementation
from mamlcli.bench.peer_problem import MetaGradientFunction
from mamlcli.common.errors import Interrupted
from mamlcli.common.machine import synchronize
from mamlcli.training.tuned import TimeSpread

# A sample of time is at least this long, so that the clock and the waking of threads do not count.
SAMPLE_S = 0.2

# Calls of one sample, whatever they take: what takes no time would never fill it.
_MAX_CALLS = 200


@contextmanager
def threads_restored() -> Iterator[int]:
    """Yield torch's number of threads and set it again at the end; an interruption becomes `Interrupted`."""
    before = torch.get_num_threads()
    try:
        yield before
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; nothing was written") from error
    finally:
        torch.set_num_threads(before)


@dataclass
class Runner:
    """Runs an implementation in this process and keeps how long it took.

    Attributes:
        implementation: what is run.
        function: computes one meta-gradient.
        device: where it computes.
        threads: CPU threads of one operation.
        calls: meta-gradients in one sample of time.
        samples: seconds per meta-gradient, one for each round.
    """

    implementation: Implementation
    function: MetaGradientFunction
    device: torch.device
    threads: int
    calls: int = 1
    samples: list[float] = dataclasses.field(default_factory=list)

    def seconds(self, calls: int = 1) -> float:
        """Return the seconds per call of some calls in a row."""
        torch.set_num_threads(self.threads)
        gc.collect()  # what others left behind is not charged to this one
        synchronize(self.device)
        began = time.perf_counter()
        for _ in range(calls):
            self.function()
        synchronize(self.device)
        return (time.perf_counter() - began) / calls

    def sample(self) -> None:
        """Take one sample; calls that are short are preceded by one that wakes threads and caches."""
        if self.calls > 1:
            self.seconds()
        self.samples.append(self.seconds(self.calls))


def best_threads(runner: Runner, candidates: list[int]) -> int:
    """Return the number of threads with which a runner is fastest; each is tried after one call for warmth."""
    if len(candidates) == 1:
        return candidates[0]
    seconds: dict[int, float] = {}
    for threads in candidates:
        runner.threads = threads
        if runner.implementation.is_compiled:
            runner.seconds()  # compiles for so many threads
        first = runner.seconds()
        calls = _calls_for(first)
        seconds[threads] = min(runner.seconds(calls) for _ in range(2)) if first < 1.0 else runner.seconds()
    return min(candidates, key=lambda threads: seconds[threads])


def measure_rounds(runners: list[Runner], *, repeats: int | None, budget_s: float) -> None:
    """Take samples of all runners in turn, in reverse order every second round.

    Args:
        runners: each with its thread count chosen.
        repeats: rounds; None for as many as fit into the budget, 3 to 15.
        budget_s: seconds, looked at between rounds.
    """
    for runner in runners:
        runner.calls = _calls_for(runner.seconds())
    fewest, most = (repeats, repeats) if repeats is not None else (3, 15)
    began = time.perf_counter()
    for index in range(most):
        if index >= fewest and time.perf_counter() - began > budget_s * index / (index + 1):
            return
        for runner in runners if index % 2 == 0 else reversed(runners):
            runner.sample()


def _calls_for(seconds: float) -> int:
    return min(_MAX_CALLS, max(1, math.ceil(SAMPLE_S / seconds)))


def spread(samples: list[float]) -> TimeSpread:
    """Return median, minimum, maximum and number of samples."""
    return TimeSpread(statistics.median(samples), min(samples), max(samples), len(samples))


def matmul_flops_per_s(device: torch.device, threads: int) -> float:
    """Return the operations per second of a large float32 matrix product, the best of five."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.ones(size, size, device=device).normal_() for _ in range(2))
    with threads_restored():
        runner = Runner(Implementation("matmul"), lambda: {"product": a @ b}, device, threads)
        runner.seconds()
        return 2.0 * size**3 / min(runner.seconds() for _ in range(5))


def copy_bytes_per_s(device: torch.device, threads: int) -> float:
    """Return the bytes per second, read and written, of copying a tensor far larger than caches, the best of five."""
    size = 2**30 if device.type == "cuda" else 2**27
    source, target = (torch.ones(size // 4, device=device) for _ in range(2))
    with threads_restored():
        runner = Runner(Implementation("copy"), lambda: {"copy": target.copy_(source)}, device, threads)
        runner.seconds()
        return 2.0 * size / min(runner.seconds() for _ in range(5))


class Rates:
    """Measures the machine's rates of products and of copies, once for each number of threads that is asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._flops: dict[int, float] = {}
        self._bytes: dict[int, float] = {}

    def flops_per_s(self, threads: int) -> float:
        """Return the operations per second of matrix products."""
        if threads not in self._flops:
            self._flops[threads] = matmul_flops_per_s(self._device, threads)
        return self._flops[threads]

    def bytes_per_s(self, threads: int) -> float:
        """Return the bytes per second of copies."""
        if threads not in self._bytes:
            self._bytes[threads] = copy_bytes_per_s(self._device, threads)
        return self._bytes[threads]

    def in_giga(self) -> tuple[dict[int, float], dict[int, float]]:
        """Return both in 1e9 a second, by threads."""
        flops, num_bytes = (
            {threads: round(rate / 1e9, 1) for threads, rate in sorted(rates.items())}
            for rates in (self._flops, self._bytes)
        )
        return flops, num_bytes
