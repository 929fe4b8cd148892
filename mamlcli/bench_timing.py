"""What `mamlcli bench` measures: agreement first, then time in alternating rounds, and memory in fresh processes."""

from __future__ import annotations

import dataclasses
import gc
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mamlcli.bench_cases import NUM_TASKS, Case, Problem, experiment_of, problem_of
from mamlcli.bench_peers import PEERS, PLAIN_LOOP, MetaGradientFunction, PeerProblem, absent_peers
from mamlcli.build import Experiment
from mamlcli.environment import peak_memory_mb
from mamlcli.errors import Interrupted, RecipeError
from mamlcli.execution import Execution, meta_gradients
from mamlcli.placement import resolve_device
from mamlcli.pool import IsStopped, Job, run_jobs
from mamlcli.tuned import TimeSpread

Params = dict[str, Tensor]

AUTO, LOOP, CONSTANT, COMPILED = "mamlcli (auto)", "mamlcli loop", "mamlcli constant", "mamlcli compiled"

# A sample of time is at least this long, so that the clock and the waking of threads do not count.
_SAMPLE_S = 0.2
_MAX_CALLS = 200


# Implementations ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Implementation:
    """One way to compute the meta-gradient of a case.

    Attributes:
        name: as in tables.
        extra: overrides of the recipe, for ours.
    """

    name: str
    extra: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        return self.name not in PEERS

    @property
    def is_compiled(self) -> bool:
        return self.name == COMPILED


OURS = {
    AUTO: Implementation(AUTO),
    LOOP: Implementation(LOOP, ("execution.path=loop",)),
    CONSTANT: Implementation(CONSTANT, ("inner.memory=constant",)),
    COMPILED: Implementation(COMPILED, ("execution.compile=true",)),
}


def implementations(
    case: Case, *, device: str, with_compiled: bool = False, peers: tuple[str, ...] = tuple(PEERS)
) -> tuple[list[Implementation], list[str]]:
    """Return what is measured on a case, ours first, and a line for everything that is left out."""
    wanted = [OURS[AUTO], OURS[LOOP]]
    wanted += [OURS[CONSTANT]] if case.memory_modes else []
    wanted += [OURS[COMPILED]] if with_compiled else []
    usable, left_out = [], []
    for implementation in wanted:
        try:
            problem_of(case, device=device, num_tasks=1, extra=implementation.extra)
            usable.append(implementation)
        except RecipeError as error:
            left_out.append(f"{case.name}: {implementation.name} is left out: {error.problems[0]}")
    absent = absent_peers()
    usable += [Implementation(name) for name in peers if name not in absent]
    return usable, left_out


def our_execution(experiment: Experiment) -> Execution:
    """Return how ours runs a meta-batch: what the recipe says, by default what `auto` picks."""
    return experiment.execution(num_tasks=NUM_TASKS, num_steps=experiment.recipe.inner.steps)


def prepared(implementation: Implementation, problem: Problem) -> MetaGradientFunction:
    """Return the function that computes one meta-gradient; everything a program does once is done here."""
    experiment, meta, episode = problem.experiment, problem.meta, problem.episode
    if implementation.is_ours:
        objective, execution = experiment.objective(), our_execution(experiment)
        return lambda: meta_gradients(objective, [meta], episode, execution)[0].gradients
    inner, model = experiment.recipe.inner, experiment.recipe.model
    peer = PeerProblem(meta.model, meta.transform, episode, inner.lr, inner.steps, getattr(model, "stride", 1))
    return PEERS[implementation.name](peer)


def own_threads(implementation: Implementation, case: Case, *, device: str, all_threads: int) -> list[int]:
    """Return the numbers of threads of one operation to try: for ours what a run gets, for a peer 1 and all."""
    if implementation.is_ours:
        torch.set_num_threads(all_threads)
        experiment_of(case, device=device, extra=implementation.extra)
        return [torch.get_num_threads()]
    return sorted({1, all_threads}) if resolve_device(device).type == "cpu" else [all_threads]


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


# Agreement ----------------------------------------------------------------------------------------------------


def strict_difference(measured: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return the largest error of any tensor, relative to the largest entry of that tensor.

    A tensor whose entries are below a thousandth of the largest of all (a convolution's bias before a batch norm has
    a gradient of zero, up to rounding) is measured against that thousandth instead. Infinity where names differ.
    """
    if measured.keys() != expected.keys():
        return math.inf
    sizes = {name: float(value.abs().max()) for name, value in expected.items()}
    floor = 1e-3 * max(sizes.values())
    errors = [
        float((measured[name].to(value) - value).abs().max()) / max(sizes[name], floor)
        for name, value in expected.items()
    ]  # fmt: skip
    return math.nan if any(math.isnan(error) for error in errors) else max(errors)


def difference_of_norms(measured: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return |measured - expected| / |expected|, Euclidean norms over all entries."""
    error = sum(float((measured[name].to(value) - value).square().sum()) for name, value in expected.items())
    return math.sqrt(error / sum(float(value.square().sum()) for value in expected.values()))


# Time ---------------------------------------------------------------------------------------------------------


@dataclass
class Runner:
    """An implementation in this process.

    Attributes:
        implementation: which.
        function: computes one meta-gradient.
        device: where.
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


def synchronize(device: torch.device) -> None:
    """Wait for a GPU to finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best_threads(runner: Runner, candidates: list[int]) -> int:
    """Return the thread count with which a runner is fastest, each tried after one call for warmth."""
    if len(candidates) == 1:
        return candidates[0]
    seconds: dict[int, float] = {}
    for threads in candidates:
        runner.threads = threads
        first = runner.seconds()
        calls = _calls_for(first)
        seconds[threads] = min(runner.seconds(calls) for _ in range(2)) if first < 1.0 else runner.seconds()
    return min(candidates, key=lambda threads: seconds[threads])


def measure_rounds(runners: list[Runner], *, repeats: int | None, budget_s: float) -> None:
    """Take samples of all runners in turn, in the other order every second round.

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
    return min(_MAX_CALLS, max(1, math.ceil(_SAMPLE_S / seconds)))


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


# Memory -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MemoryRequest:
    """The meta-gradient that a fresh process computes on `threads` threads, after preparing it on `all_threads`."""

    case: Case
    implementation: Implementation
    device: str
    all_threads: int
    threads: int


@dataclass(frozen=True)
class Memory:
    """The peak memory of a fresh process that computes one meta-gradient, in MB.

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
    outcome = run_jobs([job], num_workers=1, max_attempts=1)["memory"]
    return Memory(**outcome.value) if outcome.status == "done" else Memory(failure=outcome.reason)


def memory_job(payload: dict[str, MemoryRequest], is_stopped: IsStopped) -> dict[str, float | None]:
    """Compute one meta-gradient in this process and return its peak memory before and after, as in `Memory`."""
    request = payload["request"]
    torch.set_num_threads(request.all_threads)
    device = resolve_device(request.device)
    problem = problem_of(request.case, device=request.device, extra=request.implementation.extra)
    function = prepared(request.implementation, problem)
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
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 2**10, 1)
    return peak_memory_mb(device)


# One case -----------------------------------------------------------------------------------------------------

# Larger cases are checked on their first tasks only: double precision would take longer than all timing.
_CHECK_FLOPS = 2e11
NUM_CHECKED = 4
TOLERANCE = 1e-8


def num_checked_tasks(flops: float) -> int:
    """Return how many tasks of a case the agreement is checked on."""
    return NUM_TASKS if flops <= _CHECK_FLOPS else NUM_CHECKED


@dataclass(frozen=True)
class Differences:
    """How far a meta-gradient is from the reference: by `strict_difference` in float64, as a norm in float32."""

    float64: float
    float32: float


@dataclass
class Agreement:
    """The plain loop's meta-gradient in float64, with which those of other implementations are compared.

    Attributes:
        case: which.
        device: where.
        num_tasks: tasks of the episode.
        reference: its meta-gradient.
    """

    case: Case
    device: str
    num_tasks: int
    reference: Params

    @classmethod
    def of(cls, case: Case, *, device: str, num_tasks: int) -> Agreement:
        """Compute the reference."""
        threads = torch.get_num_threads()
        problem = problem_of(case, device=device, dtype=torch.float64, num_tasks=num_tasks)
        torch.set_num_threads(threads)
        return cls(case, device, num_tasks, prepared(Implementation(PLAIN_LOOP), problem)())

    def differences(self, implementation: Implementation) -> Differences:
        """Return how far an implementation is from the reference, on the threads set now."""
        return Differences(
            strict_difference(self._gradient(implementation, torch.float64), self.reference),
            difference_of_norms(self._gradient(implementation, torch.float32), self.reference),
        )

    def _gradient(self, implementation: Implementation, dtype: torch.dtype) -> Params:
        threads, extra = torch.get_num_threads(), implementation.extra
        problem = problem_of(self.case, device=self.device, dtype=dtype, num_tasks=self.num_tasks, extra=extra)
        torch.set_num_threads(threads)
        return prepared(implementation, problem)()
