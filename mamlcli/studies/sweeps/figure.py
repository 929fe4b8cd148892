"""The figure of a study is drawn here: scores against the axis with curves of each value, or the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.common.figures import (
    CHANCE_STYLE,
    GREY,
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
    transform_series,
    whole_steps,
)
from mamlcli.common.statistics import Score
from mamlcli.common.tables import PERCENT
from mamlcli.runs.curve import task_words
from mamlcli.studies.sweeps.result import ClosedForm, StudyResult, advantages_at_each_depth
from mamlcli.studies.sweeps.scores import StudyScores
from mamlcli.studies.sweeps.tables import AXIS_WORDS, interval_words, protocol_of, value_label

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_PANEL_HEIGHT = 2.6  # inches
_MOST_VALUES = 6  # on a horizontal axis before their names are turned


@print_style()
def save_study_figure(result: StudyResult, folder: Path) -> list[Path]:
    """Draw a study's result as figure.png and figure.svg; return their paths.

    Args:
        result: of a study, with at least one cell.
        folder: the study's, each picture written whole or not at all.
    """
    is_grid = result.is_grid
    figure = _grid_figure(result) if is_grid else _axis_figure(result)
    set_title(figure, _title(result))
    return save_figure(figure, folder / "figure.png")


def _axis_figure(result: StudyResult) -> Figure:
    metrics = [metric for metric in ("accuracy", "loss") if metric in result.cells[0].final]
    num_rows = len(metrics)
    figure = printed_figure(TWO_COLUMNS, num_rows * _PANEL_HEIGHT + 0.8)
    panels = list(figure.subplots(num_rows, 2, squeeze=False).ravel())
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_axis(axes, result, metric)
    _draw_curves(panels[len(metrics)], result, result.main_metric)
    if num_rows == 1:
        legend_below(figure, panels, ncols=2)
    else:  # beside the curves there is room
        _legend_panel(panels[-1], panels[:-1])
    return figure


def _legend_panel(axes: Axes, named: list[Axes]) -> None:
    """Name every series of the other panels in a panel of its own."""
    handles: dict[str, Artist] = {}
    for panel in named:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    axes.set_axis_off()
    axes.legend(handles.values(), handles.keys(), loc="center left")


def _draw_axis(axes: Axes, result: StudyResult, metric: str) -> None:
    """Draw a metric after adaptation against the axis, with the capacity arm and the references."""
    cells = [cell for cell in result.cells if math.isfinite(cell.final.mean(metric))]
    labels = [value_label(cell.value) for cell in result.cells]
    positions = {label: index for index, label in enumerate(labels)}
    where = [positions[value_label(cell.value)] for cell in cells]
    is_ordered = "optimizer" not in AXIS_WORDS[result.axis]
    style = SERIES[0] if is_ordered else SERIES[0]._replace(linestyle="none")
    means, widths = _means_and_widths([cell.final for cell in cells], metric)
    axes.errorbar(where, means, widths, label="meta-learned, after adaptation", zorder=3, **style._asdict())
    alone = {
        value_label(cell.value): cell.capacity for cell in cells if cell.capacity and metric in cell.capacity.scores
    }
    if alone:
        means, widths = _means_and_widths([capacity.scores for capacity in alone.values()], metric)
        at = [positions[value] for value in alone]
        label = f"each task alone, {next(iter(alone.values())).shots} examples"
        axes.errorbar(at, means, widths, label=label, **SERIES[1]._asdict())
    _draw_references(axes, result, metric)
    if metric == "loss" and result.closed_form:
        _draw_closed_form(axes, result.closed_form, positions)
    axes.set_xticks(range(len(labels)), labels)
    if not is_ordered or len(labels) > _MOST_VALUES:
        for text in axes.get_xticklabels():
            text.set(rotation=30, ha="right")
    axes.margins(x=0.08)
    axes.set_xlabel(AXIS_WORDS[result.axis])
    axes.set_ylabel(_metric_label(result, metric))
    if metric == "accuracy":
        keep_to_percent(axes)
    else:
        fit_loss_scale(axes, [cell.final.mean(metric) for cell in cells])


def _draw_references(axes: Axes, result: StudyResult, metric: str) -> None:
    for (name, values), (colour, dashes) in zip(result.references.items(), REFERENCE_STYLES, strict=False):
        if math.isfinite(mean := _scale(metric) * values.mean(metric)):
            axes.axhline(mean, color=colour, linestyle=dashes, linewidth=1.1, label=name)
    if metric == "accuracy" and result.chance_accuracy:
        axes.axhline(PERCENT * result.chance_accuracy, **CHANCE_STYLE)


def _draw_closed_form(axes: Axes, forms: ClosedForm, positions: dict[str, int]) -> None:
    def mark(loss: float, label: str, *, color: str, marker: str, size: int) -> None:
        axes.scatter([shallow], [loss], color=color, marker=marker, s=size, label=label, linewidth=2, zorder=4)

    shallow = positions.get("1", 0)
    measured = math.nan if forms.shallow_from_zero.mean is None else forms.shallow_from_zero.mean
    endless = forms.shallow_infinite_support
    mark(endless, "one layer, closed form (endless support)", color="black", marker="_", size=300)
    mark(measured, "one layer from its best start (Monte Carlo)", color=GREY, marker="x", size=40)
    axes.axhline(
        forms.preconditioned_one_step,
        color=GREY,
        linestyle=(0, (5, 1)),
        linewidth=1.0,
        label="best gradient transform, one step (closed form)",
    )


def _draw_curves(axes: Axes, result: StudyResult, metric: str) -> None:
    """Draw the adaptation curve of every axis value."""
    cells, words = result.cells, AXIS_WORDS[result.axis]
    is_ordered = "optimizer" not in AXIS_WORDS[result.axis]
    for index, cell in enumerate(cells):
        points = [point for point in cell.curve if math.isfinite(point.scores.mean(metric))]
        means, widths = _means_and_widths([point.scores for point in points], metric)
        label = f"{words} {value_label(cell.value)}" if is_ordered else value_label(cell.value)
        series = _shade(index, len(cells)) if is_ordered else transform_series(str(cell.value))
        # Side by side: bands of several values would hide each other.
        where = [point.step + 0.05 * (index - (len(cells) - 1) / 2) for point in points]
        axes.errorbar(where, means, widths, label=label, elinewidth=0.8, **series._asdict())
    whole_steps(axes)
    axes.set_ylabel(_metric_label(result, metric))
    if metric == "accuracy":
        keep_to_percent(axes)
    else:
        fit_loss_scale(axes, [point.scores.mean(metric) for cell in cells for point in cell.curve])


def _shade(index: int, num: int) -> Series:
    """Return the look of an ordered value: from dark to light, with a marker and dashes of its own."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    series = SERIES[index % len(SERIES)]
    return series._replace(color=to_hex(colormaps["viridis"](0.85 * index / max(num - 1, 1))))


def _grid_figure(result: StudyResult) -> Figure:
    """Draw score against depth, a line for each optimizer, and their advantage over the first one."""
    metric, cells = result.main_metric, result.cells
    figure = printed_figure(TWO_COLUMNS, 3.3)
    scores, advantages = figure.subplots(1, 2)
    optimizers = list(dict.fromkeys(cell.grid.optimizer for cell in cells))
    for index, name in enumerate(optimizers):
        by_depth = {cell.grid.depth: cell.final.values[metric] for cell in cells if cell.grid.optimizer == name}
        _draw_line(scores, by_depth, metric, index, name)
        if index:
            gain = {
                advantage.depth: advantage.difference
                for advantage in advantages_at_each_depth(result, metric)
                if advantage.optimizer == name
            }
            _draw_line(advantages, gain, metric, index, name)
    advantages.axhline(0.0, color="black", linewidth=0.8)
    scores.set_ylabel(_metric_label(result, metric))
    points = "accuracy, points" if metric == "accuracy" else "loss"
    advantages.set_ylabel(f"difference to {optimizers[0]} ({points})")
    for axes in (scores, advantages):
        axes.set_xticks(sorted({cell.grid.depth for cell in cells}))
        axes.set_xlabel("depth")
    legend_below(figure, [scores], ncols=6)
    return figure


def _draw_line(axes: Axes, by_depth: dict[int, Score], metric: str, index: int, label: str) -> None:
    known = {depth: score for depth, score in sorted(by_depth.items()) if score.mean is not None}
    means, widths = _means_and_widths([StudyScores({metric: score}, None) for score in known.values()], metric)
    # Side by side rather than on top of each other; the depth is the nearest whole number.
    where = [depth + 0.04 * index for depth in known]
    axes.errorbar(where, means, widths, label=label, **transform_series(label)._asdict())


def _means_and_widths(scores: Sequence[StudyScores], metric: str) -> tuple[list[float], list[float]]:
    means = [_scale(metric) * score.mean(metric) for score in scores]
    return means, [_scale(metric) * score.half_width(metric) for score in scores]


def _scale(metric: str) -> float:
    return PERCENT if metric == "accuracy" else 1.0


def _metric_label(result: StudyResult, metric: str) -> str:
    if metric == "accuracy":
        return "query accuracy (%)"
    is_classification = "accuracy" in result.cells[0].final
    return "query loss (cross-entropy, nats)" if is_classification else "query loss (half the squared error)"


def _title(result: StudyResult) -> str:
    protocol = protocol_of(result)
    return (
        f"{result.study}: {result.recipe} ({task_words(protocol)}), {protocol.num_tasks} "
        f"{protocol.split} tasks, {protocol.inner_steps} inner steps\n{interval_words(result)}"
    )
