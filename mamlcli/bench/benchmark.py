"""This module measures the meta-gradient's speed and memory beside its peers, in one run of one program."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mamlcli.bench.cases import EVALUATION, INNER_STEPS, META_GRADIENT, NUM_TASKS, QUERIES, SHOTS, Case, problem_of
from mamlcli.bench.implementations import (
    AUTO,
    COMPILED,
    TOLERANCE,
    Agreement,
    Differences,
    Implementation,
    implementations,
    num_checked_tasks,
    our_execution,
    own_threads,
    timed,
)
from mamlcli.bench.load import Load, LoadWatch
from mamlcli.bench.memory import Memory, MemoryRequest, measure_memory
from mamlcli.bench.operations import case_flops
from mamlcli.bench.peer_problem import MetaGradientFunction
from mamlcli.bench.peers import PACKAGES, PLAIN_LOOP, absent_peers
from mamlcli.bench.results import BenchReport, BenchRow, Conditions, Machine, ratios
from mamlcli.bench.timing import Rates, Runner, best_threads, measure_rounds, spread, threads_restored
from mamlcli.bench.traffic import traffic_counted
from mamlcli.common.errors import MamlError
from mamlcli.common.machine import device_name, now, package_version, versions
from mamlcli.engine.execution import Execution
from mamlcli.training.placement import resolve_device

Note = Callable[[str], None]

# What the rounds of one case may take, in seconds, where --repeats does not say how many there are.
CASE_BUDGET_S = 45.0

# The same of a case of long inner loops: those of `steps` together take under five minutes.
_STEPS_BUDGET_S = 10.0

# Tasks on which threads are chosen and traffic is counted, and inner steps above which it is not.
_TRIAL_TASKS, _TRIAL_SCORED, _TRIAL_STEPS = 2, 40, 5


@dataclass(frozen=True)
class BenchSettings:
    """Says what a bench measures.

    Attributes:
        cases: in this order.
        device: auto, cpu, cuda, cuda:N or mps.
        repeats: rounds of each case; None for 3 to 15, as fit into 45 s.
        with_compiled: also measure `execution.compile=true`.
    """

    cases: tuple[Case, ...]
    device: str = "auto"
    repeats: int | None = None
    with_compiled: bool = False


def run_benchmark(settings: BenchSettings, *, on_note: Note) -> BenchReport:
    """Measure all cases and return the report.

    Args:
        settings: what is measured, and how.
        on_note: called with a line for every stage and for everything that is left out.

    Raises:
        DeviceError: the machine has no such device.
        MamlError: an implementation of ours gives another meta-gradient than the plain loop.
    """
    device = resolve_device(settings.device)
    notes = list(absent_peers().values())
    for line in notes:
        on_note(line)
    rows: list[BenchRow] = []
    watch = LoadWatch()
    with threads_restored() as all_threads:
        rates = Rates(device)
        for case in settings.cases:
            rows_of_case, left_out = _case_rows(case, settings, all_threads, rates, on_note)
            rows += rows_of_case
            notes += left_out
    machine, conditions = _machine(device, all_threads, rates, watch.load()), _conditions(settings, device)
    return BenchReport(machine, conditions, tuple(rows), tuple(ratios(rows, AUTO)), tuple(notes))


@dataclass(frozen=True)
class _Checked:
    """Holds an implementation whose meta-gradient is right, ready to be timed.

    Attributes:
        implementation: what is timed.
        runner: runs it in this process, on the threads that suit it best.
        execution: how ours runs tasks; None of a peer.
        memory: what a fresh process took.
        differences: how far its meta-gradient is from the reference.
        first_s: seconds of the first call of what is compiled; None of others.
        num_bytes: what its operations read and write; None where they are not counted.
    """

    implementation: Implementation
    runner: Runner
    execution: Execution | None
    memory: Memory
    differences: Differences
    first_s: float | None
    num_bytes: float | None

    @property
    def threads(self) -> int:
        return self.runner.threads * (self.execution.parallel if self.execution else 1)


class _LeftOut(Exception):
    """Is raised where an implementation cannot be measured on a case; its text is the reason."""


def _case_rows(
    case: Case, settings: BenchSettings, all_threads: int, rates: Rates, on_note: Note
) -> tuple[list[BenchRow], list[str]]:
    """Return the rows of one case, and a line for everything left out of it."""
    on_note(f"{case.name}: {case.words}")
    device, flops = settings.device, case_flops(case)
    chosen, notes = implementations(case, device=device, with_compiled=settings.with_compiled)
    for line in notes:
        on_note(line)
    torch.set_num_threads(all_threads)
    agreement = Agreement.of(case, device=device, num_tasks=num_checked_tasks(flops, case.tasks))
    ready: list[_Checked] = []
    for implementation in chosen:
        try:
            ready.append(_checked(case, implementation, agreement, settings, all_threads))
        except _LeftOut as reason:
            notes.append(f"{case.name}: {implementation.name} is left out: {reason}")
            on_note(notes[-1])
        else:
            on_note(f"{case.name}: {_checked_words(ready[-1])}")
    budget_s = _STEPS_BUDGET_S if case.memory_modes else CASE_BUDGET_S
    measure_rounds([checked.runner for checked in ready], repeats=settings.repeats, budget_s=budget_s)
    return [_row(case, checked, flops, agreement.num_tasks, rates) for checked in ready], notes


def _row(case: Case, checked: _Checked, flops: int, num_checked: int, rates: Rates) -> BenchRow:
    seconds = spread(checked.runner.samples)
    bandwidth = None if checked.num_bytes is None else checked.num_bytes / seconds.median
    return BenchRow(
        case=case.name,
        implementation=checked.implementation.name,
        is_ours=checked.implementation.is_ours,
        threads=checked.threads,
        execution=checked.execution,
        peak_memory_mb=checked.memory.peak_mb,
        baseline_memory_mb=checked.memory.baseline_mb,
        float64_difference=checked.differences.float64,
        float32_difference=checked.differences.float32,
        # The first call less an ordinary one.
        compile_s=None if checked.first_s is None else max(0.0, checked.first_s - seconds.median),
        gflop=round(flops / 1e9, 3),
        checked_tasks=num_checked,
        seconds_per_meta_iteration=seconds,
        fraction_of_matmul=flops / seconds.median / rates.flops_per_s(checked.threads),
        traffic_gb=None if checked.num_bytes is None else round(checked.num_bytes / 1e9, 4),
        bandwidth_gb_per_s=None if bandwidth is None else bandwidth / 1e9,
        fraction_of_copy=None if bandwidth is None else bandwidth / rates.bytes_per_s(checked.threads),
    )


def _checked(
    case: Case, implementation: Implementation, agreement: Agreement, settings: BenchSettings, all_threads: int
) -> _Checked:
    """Check an implementation's meta-gradient and return the implementation, ready to be timed.

    Raises:
        _LeftOut: it cannot be measured, or a peer is wrong.
        MamlError: an implementation of ours is wrong.
    """
    device = settings.device
    candidates = own_threads(implementation, case, device=device, all_threads=all_threads)
    memory = measure_memory(MemoryRequest(case, implementation, device, all_threads, candidates[-1]))
    if memory.failure:
        raise _LeftOut(memory.failure)
    torch.set_num_threads(all_threads)
    problem = problem_of(case, device=device, extra=implementation.extra)
    runner = Runner(implementation, timed(implementation, problem), problem.experiment.device, candidates[-1])
    # Before anything else is computed: what was compiled for the check would not be compiled again.
    first_s = runner.seconds() if implementation.is_compiled else None
    torch.set_num_threads(candidates[-1])
    differences = agreement.differences(implementation)
    if not differences.float64 <= TOLERANCE:
        _require_peer(case, implementation, differences.float64)
        raise _LeftOut(f"its meta-gradient differs by {differences.float64:.1e} in float64")
    # What is compiled is tried as it is: for fewer tasks it would be compiled again.
    trial = runner.function if implementation.is_compiled else _trial(case, implementation, device).function
    runner.threads = best_threads(dataclasses.replace(runner, function=trial), candidates)
    execution = our_execution(problem) if implementation.is_ours else None
    num_bytes = _num_bytes(case, runner, device)
    return _Checked(implementation, runner, execution, memory, differences, first_s, num_bytes)


@dataclass(frozen=True)
class _Trial:
    """Holds a smaller form of what is timed, and its share of all tasks."""

    function: MetaGradientFunction
    share: float


def _trial(case: Case, implementation: Implementation, device: str, *, is_alone: bool = False) -> _Trial:
    """Return what is timed on a few tasks, and with a few inner steps."""
    num_steps = problem_of(case, device=device, num_tasks=1).experiment.recipe.inner.steps
    shorter = (f"inner.steps={_TRIAL_STEPS}",) if num_steps > _TRIAL_STEPS else ()
    wanted = {META_GRADIENT: _TRIAL_TASKS, EVALUATION: _TRIAL_SCORED}.get(case.kind, case.tasks)
    num_tasks, extra = min(wanted, case.tasks), (*implementation.extra, *shorter)
    of_episode = num_tasks if case.kind == META_GRADIENT else 1
    problem = problem_of(case, device=device, num_tasks=of_episode, extra=extra)
    return _Trial(timed(implementation, problem, num_tasks=num_tasks, is_alone=is_alone), num_tasks / case.tasks)


def _num_bytes(case: Case, runner: Runner, device: str) -> float | None:
    """Return the bytes that one call reads and writes; None of long inner loops, and of what torch compiles."""
    implementation = runner.implementation
    if case.memory_modes or implementation.name == COMPILED:
        return None
    torch.set_num_threads(runner.threads)
    trial = _Trial(runner.function, 1.0)
    if not implementation.is_compiled:
        trial = _trial(case, implementation, device, is_alone=True)
        torch.set_num_threads(runner.threads)
    with traffic_counted() as traffic:
        trial.function()
    return traffic.num_bytes / trial.share


def _require_peer(case: Case, implementation: Implementation, difference: float) -> None:
    """Refuse to go on with an implementation of ours that is wrong; a peer that is wrong is only left out."""
    if implementation.is_ours:
        raise MamlError(
            f"{case.name}, {implementation.name}",
            expected="the meta-gradient of a plain loop in float64",
            got=f"another, {difference:.1e} away",
            why=f"At most {TOLERANCE:.0e} is rounding",
            next_step="This is a bug in mamlcli; execution.path=loop is the reference",
        )


def _checked_words(checked: _Checked) -> str:
    differences = checked.differences
    return (
        f"{checked.implementation.name}: same meta-gradient (float64 {differences.float64:.0e}, float32 "
        f"{differences.float32:.0e}), {checked.threads} thread{'s' if checked.threads > 1 else ''}"
    )


def _machine(device: torch.device, all_threads: int, rates: Rates, load: Load) -> Machine:
    peers = {package: package_version(package) for package, _ in PACKAGES.values()}
    return Machine(
        device_name(device),
        _cpu_name(),
        os.cpu_count(),
        all_threads,
        versions(),
        now(),
        peers,
        *rates.in_giga(),
        load=load,
    )


def _cpu_name(path: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model of the CPU where the system tells it."""
    try:
        names = [
            line.partition(":")[2].strip()
            for line in path.read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _conditions(settings: BenchSettings, device: torch.device) -> Conditions:
    is_cuda = device.type == "cuda"
    return Conditions(
        cases={case.name: case.words for case in settings.cases},
        kinds={case.name: case.kind for case in settings.cases},
        tasks_of_cases={case.name: case.tasks for case in settings.cases},
        shots=SHOTS,
        queries=QUERIES,
        tasks=NUM_TASKS,
        inner_steps=INNER_STEPS,
        order=2,
        dtype="float32",
        reference=f"{PLAIN_LOOP} in float64",
        tolerance=TOLERANCE,
        repeats=settings.repeats,
        seconds_per_case=CASE_BUDGET_S if settings.repeats is None else None,
        tf32_convolutions=is_cuda and torch.backends.cudnn.allow_tf32,
        tf32_matmul=is_cuda and torch.backends.cuda.matmul.allow_tf32,
    )
