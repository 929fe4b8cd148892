"""The report of `mamlcli layers` is drawn as one figure of up to four panels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.common.disk import write_error
from mamlcli.common.figures import (
    BLUE,
    GREY,
    ORANGE,
    SERIES,
    TWO_COLUMNS,
    Series,
    print_style,
    printed_figure,
    save_figure,
    set_title,
)
from mamlcli.common.statistics import Estimate
from mamlcli.common.tables import PERCENT
from mamlcli.engine.evaluation import Array
from mamlcli.runs.curve import task_words
from mamlcli.studies.layers.optimum import OptimumReport
from mamlcli.studies.layers.results import LayersReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_PANEL_HEIGHT = 2.5  # inches
_MOST_MARKED = 40  # ranks; markers of more would touch


@print_style()
def save_layers(report: LayersReport, folder: Path) -> list[Path]:
    """Draw the report to layers.png and layers.svg in a folder, which is made; return their paths.

    Args:
        report: of a run.
        folder: where.

    Raises:
        RunError: the folder cannot be written.
    """
    panels: list[Callable[[Axes, LayersReport], None]] = [_draw_movement, _draw_partial]
    if report.operator is not None:
        panels.append(_draw_spectra)
    if not all(row.upper_is_linear for row in report.bottom):
        panels.append(_draw_bottom)
    figure = printed_figure(TWO_COLUMNS, math.ceil(len(panels) / 2) * _PANEL_HEIGHT + 0.4)
    drawn = figure.subplots(math.ceil(len(panels) / 2), 2, squeeze=False).ravel()
    for axes, draw in zip(drawn, panels, strict=False):
        draw(axes, report)
    for axes in drawn[len(panels) :]:
        axes.set_axis_off()
    protocol = report.protocol
    set_title(
        figure,
        f"{report.recipe}: {task_words(protocol)}\nbars: 95 % interval of the mean over "
        f"{protocol.num_tasks} {protocol.split} tasks",
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return save_figure(figure, folder / "layers.png")
    except OSError as error:
        raise write_error(
            error, str(folder), expected="a folder that can be written", next_step="Name another with --out"
        ) from error


def _means(values: list[Estimate], scale: float = 1.0) -> tuple[list[float], list[float]]:
    """Return means and half-widths; NaN, which is not drawn, for a mean that does not exist."""
    means = [scale * value.mean if math.isfinite(value.mean) else math.nan for value in values]
    return means, [scale * value.ci95 if math.isfinite(value.ci95) else 0.0 for value in values]


def _draw_movement(axes: Axes, report: LayersReport) -> None:
    rows = report.movement
    means, widths = _means([row.relative for row in rows])
    axes.bar(range(len(rows)), means, yerr=widths, color=BLUE, width=0.6, error_kw={"linewidth": 1.2})
    names = [row.layer for row in rows]
    is_crowded = sum(map(len, names)) > 32  # what a panel has room for
    axes.set_xticks(range(len(rows)), names)
    if is_crowded:
        axes.tick_params(axis="x", labelrotation=35)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    axes.set_xlabel("layer")
    axes.set_ylabel("distance moved / size of layer")
    axes.set_ylim(bottom=0)
    axes.set_title("1. How far each layer moves")
    axes.grid(visible=False, axis="x")


def _draw_partial(axes: Axes, report: LayersReport) -> None:
    is_squared = report.partial[0].accuracy is None
    scale = 1.0 if is_squared else PERCENT
    for part, series in zip(("lower", "upper"), SERIES, strict=False):
        rows = [row for row in report.partial if row.part == part]
        means, widths = _means([(row.accuracy or row.loss).value for row in rows], scale)
        axes.errorbar(
            [row.num_layers for row in rows], means, yerr=widths, label=f"only the {part}", **series._asdict()
        )
    axes.set_xticks(range(len(report.movement) + 1))
    axes.set_xlabel("layers that may move")
    axes.set_ylabel("query loss (half the squared error)" if is_squared else "query accuracy (%)")
    axes.set_title("2. Only some layers may move")
    axes.legend()


def _draw_spectra(axes: Axes, report: LayersReport) -> None:
    from matplotlib.ticker import MaxNLocator

    operator = report.operator
    assert operator is not None
    if operator.optimum is not None:
        _draw_optimum(axes, operator.optimum)
    elif operator.spectrum is not None:
        _draw_spectrum(axes, operator.spectrum, "all layers", SERIES[0])
        axes.set_ylabel("singular value")
        axes.set_title("3. Operator on the collapsed head's gradient")
    else:
        for layer, series in zip(operator.layers, SERIES, strict=False):
            _draw_spectrum(axes, layer.right_spectrum, layer.layer, series)
        axes.set_ylabel("eigenvalue of the layers below")
        axes.set_title("3. Operator on a layer's gradient")
    axes.set_yscale("log")
    # Room for the legend above the curves.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** (0.11 * len(axes.lines)))
    _plain_log_labels(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("rank")
    axes.legend(loc="upper right")


def _plain_log_labels(axes: Axes) -> None:
    """Write a log axis in plain numbers; where it spans less than a decade it would else have no or crowded ones."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_optimum(axes: Axes, optimum: OptimumReport) -> None:
    styles = {
        "optimal": ("best operator of one step", Series("black", "D", "-")),
        "all_steps": ("all inner steps (fitted)", SERIES[0]),
        "one_step": ("first inner step", SERIES[1]),
        "plain": ("plain gradient, best rate", Series(GREY, "v", ":")),
    }
    for name, (label, series) in styles.items():
        if (operator := optimum.comparisons[name]) is not None:
            _draw_spectrum(axes, operator.spectrum, label, series)
    axes.set_ylabel("singular value")
    axes.set_title("3. Operator on the collapsed model's gradient")


def _draw_spectrum(axes: Axes, values: Array, label: str, series: Series) -> None:
    # Values that are zero up to rounding would stretch the axis over many decades of nothing.
    shown = [value for value in values if value > 1e-9 * values[0]]
    look = series if len(shown) <= _MOST_MARKED else series._replace(marker="")
    axes.plot(range(1, len(shown) + 1), shown, markersize=3, label=label, **look._asdict())


def _draw_bottom(axes: Axes, report: LayersReport) -> None:
    rows = report.bottom
    nums = [row.num_layers for row in rows]
    angles, ratios = [row.angle_deg for row in rows], [row.length_ratio for row in rows]
    other = axes.twinx()
    other.grid(visible=False)
    other.spines["right"].set_visible(True)
    drawn = []
    for side, values, series in ((axes, angles, SERIES[0]), (other, ratios, SERIES[1])):
        means, widths = _means(values)
        drawn.append(side.errorbar(nums, means, yerr=widths, **series._asdict()))
        # The legend needs room above the curves, which it cannot see on the other axis.
        highest = max([m + w for m, w in zip(means, widths, strict=True) if math.isfinite(m)], default=1.0)
        side.set_ylim(-0.04 * max(highest, 1e-3), 1.3 * max(highest, 1e-3))
    axes.set_ylabel("angle (degrees)", color=BLUE)
    other.set_ylabel("length, full / head alone", color=ORANGE)
    axes.set_xticks(nums)
    axes.margins(x=0.15)
    axes.set_xlabel("bottom layers, counted from the input")
    axes.legend(drawn, ["angle (left)", "length ratio (right)"], loc="upper center", ncols=2, columnspacing=1.0)
    axes.set_title("4. Bottom update: full network and head alone")
