"""This module measures the meta-gradient's speed and memory beside its peers, in one run of one program."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mamlcli.bench.cases import INNER_STEPS, NUM_TASKS, QUERIES, SHOTS, Case, case_flops, problem_of
from mamlcli.bench.implementations import (
    AUTO,
    TOLERANCE,
    Agreement,
    Differences,
    Implementation,
    implementations,
    num_checked_tasks,
    our_execution,
    own_threads,
    prepared,
)
from mamlcli.bench.memory import Memory, MemoryRequest, measure_memory
from mamlcli.bench.peers import PLAIN_LOOP, absent_peers
from mamlcli.bench.results import BenchReport, BenchRow, Conditions, Machine, ratios
from mamlcli.bench.timing import (
    Runner,
    best_threads,
    matmul_flops_per_s,
    measure_rounds,
    spread,
    threads_restored,
)
from mamlcli.common.errors import MamlError
from mamlcli.common.machine import device_name, now, package_version, versions
from mamlcli.engine.execution import Execution
from mamlcli.training.placement import resolve_device

Note = Callable[[str], None]

# What the rounds of one case may take, in seconds, where --repeats does not say how many there are.
CASE_BUDGET_S = 45.0


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
    with threads_restored() as all_threads:
        rates = _Rates(device)
        for case in settings.cases:
            rows_of_case, left_out = _case_rows(case, settings, all_threads, rates, on_note)
            rows += rows_of_case
            notes += left_out
    machine, conditions = _machine(device, all_threads, rates.as_gflop()), _conditions(settings, device)
    return BenchReport(machine, conditions, tuple(rows), tuple(ratios(rows, AUTO)), tuple(notes))


class _Rates:
    """Measures the machine's rate of matrix products, once for each number of threads that is asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rates: dict[int, float] = {}

    def flops_per_s(self, threads: int) -> float:
        if threads not in self._rates:
            self._rates[threads] = matmul_flops_per_s(self._device, threads)
        return self._rates[threads]

    def as_gflop(self) -> dict[int, float]:
        return {threads: round(rate / 1e9, 1) for threads, rate in sorted(self._rates.items())}


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
    """

    implementation: Implementation
    runner: Runner
    execution: Execution | None
    memory: Memory
    differences: Differences
    first_s: float | None

    @property
    def threads(self) -> int:
        return self.runner.threads * (self.execution.parallel if self.execution else 1)


class _LeftOut(Exception):
    """Is raised where an implementation cannot be measured on a case; its text is the reason."""


def _case_rows(
    case: Case, settings: BenchSettings, all_threads: int, rates: _Rates, on_note: Note
) -> tuple[list[BenchRow], list[str]]:
    """Return the rows of one case, and a line for everything left out of it."""
    on_note(f"{case.name}: {case.words}")
    device, flops = settings.device, case_flops(case)
    chosen, notes = implementations(case, device=device, with_compiled=settings.with_compiled)
    for line in notes:
        on_note(line)
    torch.set_num_threads(all_threads)
    agreement = Agreement.of(case, device=device, num_tasks=num_checked_tasks(flops))
    ready: list[_Checked] = []
    for implementation in chosen:
        try:
            ready.append(_checked(case, implementation, agreement, settings, all_threads))
        except _LeftOut as reason:
            notes.append(f"{case.name}: {implementation.name} is left out: {reason}")
            on_note(notes[-1])
        else:
            on_note(f"{case.name}: {_checked_words(ready[-1])}")
    measure_rounds([checked.runner for checked in ready], repeats=settings.repeats, budget_s=CASE_BUDGET_S)
    return [_row(case, checked, flops, agreement.num_tasks, rates) for checked in ready], notes


def _row(case: Case, checked: _Checked, flops: int, num_checked: int, rates: _Rates) -> BenchRow:
    seconds = spread(checked.runner.samples)
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
    runner = Runner(implementation, prepared(implementation, problem), problem.experiment.device, candidates[-1])
    # Before anything else is computed: what was compiled for the check would not be compiled again.
    first_s = runner.seconds() if implementation.is_compiled else None
    torch.set_num_threads(candidates[-1])
    differences = agreement.differences(implementation)
    if not differences.float64 <= TOLERANCE:
        _require_peer(case, implementation, differences.float64)
        raise _LeftOut(f"its meta-gradient differs by {differences.float64:.1e} in float64")
    trial = prepared(implementation, problem_of(case, device=device, num_tasks=2, extra=implementation.extra))
    runner.threads = best_threads(dataclasses.replace(runner, function=trial), candidates)
    execution = our_execution(problem.experiment) if implementation.is_ours else None
    return _Checked(implementation, runner, execution, memory, differences, first_s)


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


def _machine(device: torch.device, all_threads: int, rates: dict[int, float]) -> Machine:
    peers = {package: package_version(package) for package in ("higher", "torchopt")}
    return Machine(device_name(device), _cpu_name(), os.cpu_count(), all_threads, versions(), now(), peers, rates)


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
