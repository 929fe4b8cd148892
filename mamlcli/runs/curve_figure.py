"""Draws an adaptation curve as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.common.figures import (
    CHANCE_STYLE,
    ONE_COLUMN,
    REFERENCE_STYLES,
    SERIES,
    TWO_COLUMNS,
    Series,
    fit_loss_scale,
    keep_to_percent,
    legend_below,
    print_style,
    printed_figure,
    save_figure,
    set_title,
    whole_steps,
)
from mamlcli.common.tables import PERCENT
from mamlcli.runs.curve import task_words
from mamlcli.runs.report import RunReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@print_style()
def save_curve(report: RunReport, path: Path) -> list[Path]:
    """Draw the adaptation curve of an evaluation, support and query against inner steps, and write it to files.

    Args:
        report: what is drawn.
        path: of the PNG; the SVG goes beside it.
    """
    panels = ["accuracy", "loss"] if report.has_accuracy else ["loss"]
    figure = printed_figure(TWO_COLUMNS if report.has_accuracy else ONE_COLUMN, 2.9)
    drawn = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, quantity in zip(drawn, panels, strict=True):
        _draw_metric(axes, report, f"support_{quantity}", SERIES[1], "support")
        _draw_metric(axes, report, quantity, SERIES[0], "query")
        _draw_references(axes, report, quantity)
        _label(axes, report, quantity)
    legend_below(figure, drawn, ncols=5 if report.has_accuracy else 2)
    set_title(figure, _title(report))
    return save_figure(figure, path)


def _scale(metric: str) -> float:
    return PERCENT if metric.endswith("accuracy") else 1.0


def _draw_metric(axes: Axes, report: RunReport, metric: str, series: Series, label: str) -> None:
    steps = [point.step for point in report.curve]
    # A mean that overflowed is NaN; a gap in the line stands for it.
    means = [_scale(metric) * mean for mean in report.means(metric)]
    widths = [_scale(metric) * point.scores.half_width(metric) for point in report.curve]
    _draw_band(axes, steps, means, widths, series, label)


def _draw_band(
    axes: Axes, steps: Sequence[float], means: Sequence[float], widths: Sequence[float], series: Series, label: str
) -> None:
    """Draw a line with its intervals as a band."""
    axes.plot(steps, means, **series._asdict(), label=label)
    low = [mean - width for mean, width in zip(means, widths, strict=True)]
    high = [mean + width for mean, width in zip(means, widths, strict=True)]
    axes.fill_between(steps, low, high, color=series.color, alpha=0.2, linewidth=0)


def _draw_references(axes: Axes, report: RunReport, quantity: str) -> None:
    for (name, scores), (colour, dashes) in zip(report.references.items(), REFERENCE_STYLES, strict=False):
        if scores.of(quantity) is not None:
            mean = _scale(quantity) * scores.mean(quantity)
            axes.axhline(mean, color=colour, linestyle=dashes, linewidth=1.1, label=name)
    if quantity == "accuracy" and report.chance_accuracy:
        axes.axhline(PERCENT * report.chance_accuracy, **CHANCE_STYLE)


def _label(axes: Axes, report: RunReport, quantity: str) -> None:
    whole_steps(axes)
    if quantity == "accuracy":
        axes.set_ylabel("accuracy (%)")
        keep_to_percent(axes)
        return
    axes.set_ylabel("loss (cross-entropy, nats)" if report.has_accuracy else "loss (half the squared error)")
    fit_loss_scale(axes, [*report.means("loss"), *report.means("support_loss")])


def _title(report: RunReport) -> str:
    protocol = report.protocol
    return (
        f"{report.recipe}: {task_words(protocol)}; mean and 95 % interval (band) over "
        f"{protocol.num_tasks} {protocol.split} tasks"
    )
