"""`mamlcli bench`: speed and memory of the meta-gradient, beside its peers, in one run of one program."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mamlcli.bench_cases import INNER_STEPS, NUM_TASKS, QUERIES, SHOTS, Case, case_flops, problem_of
from mamlcli.bench_peers import PLAIN_LOOP, absent_peers
from mamlcli.bench_timing import (
    AUTO,
    TOLERANCE,
    Agreement,
    Implementation,
    Runner,
    best_threads,
    implementations,
    matmul_flops_per_s,
    measure_memory,
    measure_rounds,
    num_checked_tasks,
    our_execution,
    own_threads,
    prepared,
    spread,
    threads_restored,
)
from mamlcli.environment import device_name, now, versions
from mamlcli.errors import MamlError
from mamlcli.placement import resolve_device

Note = Callable[[str], None]

# What the rounds of one case may take, in seconds, where --repeats does not say how many there are.
CASE_BUDGET_S = 45.0


@dataclass(frozen=True)
class BenchSettings:
    """What a bench measures.

    Attributes:
        cases: in this order.
        device: auto, cpu, cuda or cuda:N.
        repeats: rounds of each case; None for 3 to 15, as fit into 45 s.
        with_compiled: also measure `execution.compile=true`.
    """

    cases: tuple[Case, ...]
    device: str = "auto"
    repeats: int | None = None
    with_compiled: bool = False


def run_benchmark(settings: BenchSettings, *, on_note: Note) -> dict[str, Any]:
    """Measure all cases and return the report, primitives only.

    Args:
        settings: what.
        on_note: called with a line for every stage and for everything that is left out.

    Raises:
        DeviceError: the machine has no such device.
        MamlError: an implementation of ours gives another meta-gradient than the plain loop.
    """
    device = resolve_device(settings.device)
    notes = list(absent_peers().values())
    for line in notes:
        on_note(line)
    rows: list[dict[str, Any]] = []
    with threads_restored() as all_threads:
        rates = _Rates(device)
        for case in settings.cases:
            found, left_out = _case_rows(case, settings, all_threads, rates, on_note)
            rows += found
            notes += left_out
    return {
        "machine": {**_machine(device, all_threads), "matmul_gflop_per_s": rates.as_gflop()},
        "settings": _settings(settings, device),
        "rows": rows,
        "ratios": ratios(rows),
        "notes": notes,
    }


class _Rates:
    """The machine's matrix-multiply rate by threads, measured when first asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rates: dict[int, float] = {}

    def flops_per_s(self, threads: int) -> float:
        if threads not in self._rates:
            self._rates[threads] = matmul_flops_per_s(self._device, threads)
        return self._rates[threads]

    def as_gflop(self) -> dict[str, float]:
        return {str(threads): round(rate / 1e9, 1) for threads, rate in sorted(self._rates.items())}


def _case_rows(
    case: Case, settings: BenchSettings, all_threads: int, rates: _Rates, on_note: Note
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of one case, and a line for everything left out of it."""
    on_note(f"{case.name}: {case.words}")
    device, flops = settings.device, case_flops(case)
    chosen, notes = implementations(case, device=device, with_compiled=settings.with_compiled)
    for line in notes:
        on_note(line)
    num_checked = num_checked_tasks(flops)
    torch.set_num_threads(all_threads)
    agreement = Agreement.of(case, device=device, num_tasks=num_checked)
    rows: list[dict[str, Any]] = []
    runners: list[Runner] = []
    for implementation in chosen:
        row, runner, reason = _checked_runner(case, implementation, agreement, settings, all_threads)
        if runner is None:
            notes.append(f"{case.name}: {implementation.name} is left out: {reason}")
            on_note(notes[-1])
            continue
        rows.append({**row, "gflop": round(flops / 1e9, 3), "checked_tasks": num_checked})
        runners.append(runner)
        on_note(f"{case.name}: {_checked_words(rows[-1])}")
    measure_rounds(runners, repeats=settings.repeats, budget_s=CASE_BUDGET_S)
    for row, runner in zip(rows, runners, strict=True):
        row["seconds_per_meta_iteration"] = spread(runner.samples)
        rate = flops / row["seconds_per_meta_iteration"]["median"]
        row["fraction_of_matmul"] = rate / rates.flops_per_s(row["threads"])
        if row["compile_s"] is not None:
            # The first call less an ordinary one.
            row["compile_s"] = max(0.0, row["compile_s"] - row["seconds_per_meta_iteration"]["median"])
    return rows, notes


def _checked_runner(
    case: Case, implementation: Implementation, agreement: Agreement, settings: BenchSettings, all_threads: int
) -> tuple[dict[str, Any], Runner | None, str]:
    """Return the row so far and the runner of an implementation; None and the reason where it cannot be measured."""
    device = settings.device
    candidates = own_threads(implementation, case, device=device, all_threads=all_threads)
    options = {"all_threads": all_threads, "threads": candidates[-1]}
    memory = measure_memory(case, implementation, device=device, **options)
    failure = memory.pop("failure")
    if failure:
        return {}, None, failure
    torch.set_num_threads(all_threads)
    problem = problem_of(case, device=device, extra=implementation.extra)
    runner = Runner(implementation, prepared(implementation, problem), problem.experiment.device, candidates[-1])
    # Before anything else is computed: what was compiled for the check would not be compiled again.
    compile_s = runner.seconds() if implementation.is_compiled else None
    torch.set_num_threads(candidates[-1])
    differences = agreement.differences(implementation)
    if not differences["float64_difference"] <= TOLERANCE:
        _require_peer(case, implementation, differences["float64_difference"])
        return {}, None, f"its meta-gradient differs by {differences['float64_difference']:.1e} in float64"
    trial = prepared(implementation, problem_of(case, device=device, num_tasks=2, extra=implementation.extra))
    runner.threads = best_threads(dataclasses.replace(runner, function=trial), candidates)
    execution = our_execution(problem.experiment) if implementation.is_ours else None
    row = {
        "case": case.name,
        "implementation": implementation.name,
        "is_ours": implementation.is_ours,
        "threads": runner.threads * (execution.parallel if execution else 1),
        "execution": dataclasses.asdict(execution) if execution else None,
        **memory,
        **differences,
        "compile_s": compile_s,
    }
    return row, runner, ""


def _require_peer(case: Case, implementation: Implementation, difference: float) -> None:
    """Refuse to go on with an implementation of ours that is wrong; a peer is left out."""
    if implementation.is_ours:
        raise MamlError(f"{case.name}, {implementation.name}", expected="the meta-gradient of a plain loop in float64",
                        got=f"another, {difference:.1e} away", why=f"At most {TOLERANCE:.0e} is rounding",
                        next_step="This is a bug in mamlcli; execution.path=loop is the reference")  # fmt: skip


def _checked_words(row: dict[str, Any]) -> str:
    return (
        f"{row['implementation']}: same meta-gradient (float64 {row['float64_difference']:.0e}, float32 "
        f"{row['float32_difference']:.0e}), {row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    )


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how many times faster ours by `auto` is than each peer of a case, and which peer is the fastest."""
    found = []
    for case in dict.fromkeys(row["case"] for row in rows):
        medians = {
            row["implementation"]: row["seconds_per_meta_iteration"]["median"] for row in rows if row["case"] == case
        }
        peers = [row["implementation"] for row in rows if row["case"] == case and not row["is_ours"]]
        if AUTO not in medians or not peers:
            continue
        fastest = min(peers, key=lambda name: medians[name])
        found += [
            {
                "case": case,
                "mamlcli": AUTO,
                "peer": peer,
                "speedup": medians[peer] / medians[AUTO],
                "is_fastest_peer": peer == fastest,
            }
            for peer in peers
        ]
    return found


def _machine(device: torch.device, all_threads: int) -> dict[str, Any]:
    found = {
        "device": device_name(device), "cpu": _cpu_name(), "cores": os.cpu_count(), "threads": all_threads,
        **versions(), "time": now(),
    }  # fmt: skip
    for package in ("higher", "torchopt"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _cpu_name(path: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model of the CPU where the system tells it."""
    try:
        names = [line.partition(":")[2].strip() for line in path.read_text().splitlines() if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _settings(settings: BenchSettings, device: torch.device) -> dict[str, Any]:
    return {
        "cases": {case.name: case.words for case in settings.cases},
        "shots": SHOTS, "queries": QUERIES, "tasks": NUM_TASKS, "inner_steps": INNER_STEPS, "order": 2,
        "dtype": "float32", "reference": f"{PLAIN_LOOP} in float64", "tolerance": TOLERANCE,
        "repeats": settings.repeats, "seconds_per_case": CASE_BUDGET_S if settings.repeats is None else None,
        "tf32_convolutions": device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        "tf32_matmul": device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32,
    }  # fmt: skip
