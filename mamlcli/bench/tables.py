"""This module shows the results of `mamlcli bench` as tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mamlcli.bench.load import Load
from mamlcli.bench.results import BenchReport, BenchRow, Machine, Ratio
from mamlcli.bench.tuning import TuningReport
from mamlcli.common.tables import PERCENT, plain_table
from mamlcli.training.tuned import TimeSpread


def bench_parts(report: BenchReport) -> list[RenderableType]:
    """Return what to show of a bench, in order; no line of a table is longer than 80 characters.

    Args:
        report: what `run_benchmark` returns.
    """
    machine, settings = report.machine, report.settings
    parts: list[RenderableType] = [
        Text(
            f"One meta-gradient, if a case says no other: {settings.tasks} tasks, {settings.shots}-shot,\n"
            f"{settings.queries} queries, second order, {settings.dtype}"
        ),
        Text(f"on {machine.device}, {machine.cpu}"),
        Text(", ".join([f"torch {machine.versions['torch']}", *_peer_versions(machine)])),
        Text(f"matrix product, float32, GFLOP/s: {_by_threads(machine.matmul_gflop_per_s)}"),
        Text(f"copying memory, GB/s: {_by_threads(machine.copy_gb_per_s)}"),
        Text(f"{_load_words(machine.load)}\n"),
    ]
    for case, words in settings.cases.items():
        rows = report.rows_of(case)
        if rows:
            parts += [Text(f"{case}: {words}", style="bold"), _case_table(rows, report.ratios)]
            parts.append(Text(f"{_case_note(rows)}\n", style="dim"))
    parts.append(Text(_NOTE, style="dim"))
    return [*parts, *(Text(line, style="dim") for line in report.notes)]


_NOTE = """\
seconds: median over alternating rounds; MB: peak memory of a fresh process,
interpreter and torch included; flop %: nominal operations a second (of a
meta-gradient: 9 forward passes an inner step, 3 for the query) as a share of
the matrix product's on as many threads; GB/s: bytes a second that operations
read and write, each tensor once an operation (above the rate of copying where
caches help); speedup: of mamlcli (auto) over this peer; error: distance of
float32 to the plain loop in float64, relative norm (it jumps where rounding
crosses the kink of a ReLU)"""


def _peer_versions(machine: Machine) -> list[str]:
    names = {"torchopt": "TorchOpt"}
    return [f"{names.get(name, name)} {version}" for name, version in machine.peers.items()]


def _by_threads(rates: Mapping[int, float]) -> str:
    return ", ".join(f"{rate:,.0f} with {_threads(threads)}" for threads, rate in rates.items()) or "not measured"


def _load_words(load: Load) -> str:
    """Return a line on what else the machine did."""
    if load.before is None:
        words = "load before: not known"
    else:
        words = f"load before: {', '.join(f'{value:.2f}' for value in load.before)} (1, 5, 15 minutes)"
    if load.by_others is not None:
        words += f"; others used {PERCENT * load.by_others:.0f} % of the cores"
    return words


def _case_table(rows: list[BenchRow], all_ratios: Sequence[Ratio]) -> Table:
    table = plain_table()
    table.add_column("", no_wrap=True)
    for name in ("seconds", "min-max", "MB", "flop %", "GB/s", "speedup"):
        table.add_column(name, justify="right", no_wrap=True)
    speedups = {(ratio.case, ratio.peer): ratio for ratio in all_ratios}
    for row in rows:
        ratio = speedups.get((row.case, row.implementation))
        table.add_row(
            row.implementation,
            *_spread_cells(row.seconds_per_meta_iteration),
            "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}",
            f"{PERCENT * row.fraction_of_matmul:.1f}",
            "-" if row.bandwidth_gb_per_s is None else f"{row.bandwidth_gb_per_s:.1f}",
            f"{ratio.speedup:.2f}" if ratio else "",
        )
    return table


def _case_note(rows: list[BenchRow]) -> str:
    """Return lines on threads, memory, and how implementations of ours run tasks."""
    threads = "; ".join(f"{row.implementation} {row.threads}" for row in rows)
    base = min((row.baseline_memory_mb for row in rows if row.baseline_memory_mb is not None), default=None)
    lines = [f"threads: {threads}"]
    errors = "; ".join(f"{row.implementation} {row.float32_difference:.0e}" for row in rows)
    lines.append(f"error: {errors}")
    if base is not None:
        lines.append(f"memory before the first meta-gradient: from {base:,.0f} MB")
    lines += [
        f"{row.implementation}: {', '.join(f'{key} {value}' for key, value in asdict(row.execution).items())}"
        for row in rows
        if row.execution
    ]
    lines += [f"{row.implementation}: compiled in {row.compile_s:.1f} s" for row in rows if row.compile_s is not None]
    return "\n".join(lines)


def tuning_parts(report: TuningReport) -> list[RenderableType]:
    """Return what to show of a tuning: what was measured, what was chosen, and where it is stored.

    Args:
        report: what `tune` returns.
    """
    table = plain_table(f"{report.recipe}: seconds per meta-iteration of {report.tasks} tasks")
    table.add_column("path", no_wrap=True)
    for name in ("chunk", "parallel", "threads", "seconds", "min-max", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for choice in report.candidates:
        how = choice.execution
        table.add_row(
            f"{how.path}, compiled" if how.compile else how.path,
            str(how.chunk),
            str(how.parallel),
            str(choice.threads),
            *_spread_cells(choice.seconds_per_meta_iteration),
            "chosen" if choice == report.chosen else "",
        )
    return [table, Text(f"Stored in {report.file}", style="dim")]


def _threads(number: int) -> str:
    return f"{number} thread" if number == 1 else f"{number} threads"


def _spread_cells(seconds: TimeSpread | None) -> tuple[str, str]:
    """Return the cells of median and extremes."""
    if seconds is None:
        return "", ""
    return _seconds(seconds.median), f"{_seconds(seconds.min)}-{_seconds(seconds.max)}"


def _seconds(value: float) -> str:
    """Return seconds with three significant digits."""
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
