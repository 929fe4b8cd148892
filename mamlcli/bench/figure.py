"""This module draws a bench as one figure: time and memory of every case, and of growing inner loops."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.bench.results import BenchReport, BenchRow
from mamlcli.common.disk import write_error
from mamlcli.common.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure
from mamlcli.common.files import atomic_write, json_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# The rest of Okabe and Ito's palette.
_LIGHT_BLUE, _YELLOW, _BLACK = "#56B4E9", "#E69F00", "#000000"

# Of no palette; JAX is the seventh.
_RED = "#8B0000"

_STYLES = {
    "mamlcli (auto)": (BLUE, "o"),
    "mamlcli compiled": (PURPLE, "D"),
    "mamlcli constant": (_BLACK, "v"),
    "mamlcli loop": (_LIGHT_BLUE, "s"),
    "plain loop": (GREY, "^"),
    "higher": (ORANGE, "P"),
    "TorchOpt": (GREEN, "X"),
    "jax": (_RED, "*"),
}

_STEPS = "steps-"

# Inches: of a bar, and of what else a case needs.
_BAR, _HEAD = 0.26, 0.95


def save_report(report: BenchReport, *, figure: Path | None, folder: Path | None) -> list[Path]:
    """Write the figure of a bench, and its report and figure into a folder, and return the paths written.

    Args:
        report: what `run_benchmark` returns.
        figure: a PNG of its own; None for none.
        folder: for bench.json and bench.png, made where it is missing; None for none.

    Raises:
        RunError: a place that cannot be written.
    """
    if figure is None and folder is None:
        return []
    picture = bench_png(report)
    paths = [] if figure is None else _written(figure, {figure: picture})
    if folder is not None:
        contents = {folder / "bench.json": json_text(report.to_json()).encode(), folder / "bench.png": picture}
        paths += _written(folder, contents)
    return paths


def _written(place: Path, contents: Mapping[Path, bytes]) -> list[Path]:
    """Write files, make the folders above them, and return their paths."""
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, content)
    except OSError as error:
        expected, next_step = "a place that can be written", "Name another with --figure or --out"
        raise write_error(error, str(place), expected=expected, next_step=next_step) from error
    return list(contents)


def bench_png(report: BenchReport) -> bytes:
    """Return the figure as PNG: a row of time and memory for each case, and one over the inner steps."""
    cases = [name for name in report.settings.cases if report.rows_of(name)]
    stepped = [name for name in cases if name.startswith(_STEPS)]
    stepped = stepped if len(stepped) > 1 else []  # one point is no line
    plain = [name for name in cases if name not in stepped]
    counts = [len(report.rows_of(name)) for name in plain]
    heights = [_HEAD + _BAR * count for count in counts] + ([3.4] if stepped else [])
    drawn = new_figure(8.6, sum(heights) + 0.5)
    grid = drawn.add_gridspec(len(heights), 2, height_ratios=heights)
    for index, name in enumerate(plain):
        of_case = report.rows_of(name)
        time_axes, memory_axes = (drawn.add_subplot(grid[index, column]) for column in (0, 1))
        _draw_time(time_axes, of_case, f"{name}: {report.settings.cases[name]}")
        _draw_memory(memory_axes, of_case)
    if stepped:
        of_steps = [row for row in report.rows if row.case in stepped]
        axes = [drawn.add_subplot(grid[len(plain), column]) for column in (0, 1)]
        _draw_steps(drawn, axes, of_steps)
    machine = report.machine
    drawn.suptitle(f"One meta-gradient, if a case says no other, on {machine.cpu}, {machine.device}", fontsize=9)
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png")
    return buffer.getvalue()


def _colour(row: BenchRow) -> str:
    return _STYLES.get(row.implementation, (_YELLOW, "o"))[0]


def _draw_time(axes: Axes, rows: list[BenchRow], title: str) -> None:
    seconds = [row.seconds_per_meta_iteration for row in rows]
    medians = [value.median for value in seconds]
    reach = [
        [value.median - value.min for value in seconds],
        [value.max - value.median for value in seconds],
    ]
    places = range(len(rows))
    axes.barh(places, medians, xerr=reach, color=[_colour(row) for row in rows], error_kw={"linewidth": 1.0})
    axes.set_yticks(places, [row.implementation for row in rows], fontsize=8)
    axes.set_xlabel("seconds (median, min to max)", fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    _finish_bars(axes)


def _draw_memory(axes: Axes, rows: list[BenchRow]) -> None:
    places = range(len(rows))
    peaks = [row.peak_memory_mb or 0.0 for row in rows]
    bases = [row.baseline_memory_mb or 0.0 for row in rows]
    axes.barh(places, peaks, color=[_colour(row) for row in rows])
    axes.barh(places, bases, color="white", alpha=0.55, hatch="////", edgecolor=GREY, linewidth=0)
    axes.set_yticks(places, [""] * len(rows))
    axes.set_xlabel("peak memory (MB; hatched: before the meta-gradient)", fontsize=8)
    _finish_bars(axes)


def _finish_bars(axes: Axes) -> None:
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_steps(figure: Figure, both: list[Axes], rows: list[BenchRow]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    names = list(dict.fromkeys(row.implementation for row in rows))
    for axes, label in zip(both, ("seconds (median)", "peak memory (MB)"), strict=True):
        for name in names:
            points = [(_num_steps(row), _step_value(row, label)) for row in rows if row.implementation == name]
            known = [(steps, value) for steps, value in points if value is not None]
            colour, marker = _STYLES.get(name, (_YELLOW, "o"))
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, marker=marker, markersize=4, label=name)
        steps = sorted({_num_steps(row) for row in rows})
        axes.set_xscale("log")
        axes.set_xticks(steps, [str(number) for number in steps])
        axes.minorticks_off()
        axes.set_xlabel("inner steps", fontsize=8)
        axes.set_ylabel(label, fontsize=8)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def _num_steps(row: BenchRow) -> int:
    return int(row.case.removeprefix(_STEPS))


def _step_value(row: BenchRow, label: str) -> float | None:
    return row.seconds_per_meta_iteration.median if label.startswith("seconds") else row.peak_memory_mb
