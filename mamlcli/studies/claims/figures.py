"""Figures of a reproduction show scores against depth, adaptation curves, and learned operators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mamlcli.common.figures import (
    CHANCE_STYLE,
    REFERENCE_STYLES,
    SERIES,
    TRANSFORM_SERIES,
    TWO_COLUMNS,
    Series,
    figure_bytes,
    fit_loss_scale,
    keep_to_percent,
    print_style,
    printed_figure,
    set_title,
    whole_steps,
)
from mamlcli.studies.claims.report import Picture, cell_words
from mamlcli.studies.layers.optimum import OptimumReport
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.scores import StudyScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_LONG_NAME = 18  # characters; two columns of names have no room for more
_LAYER_DASHES = ("-", "--", ":", "-.")  # by the number of appended layers


def picture(name: str, figure: Figure, caption: str) -> Picture:
    """Return a figure as the report holds it: NAME.png and NAME.svg."""
    return Picture(f"{name}.png", figure_bytes(figure, "png"), caption, figure_bytes(figure, "svg"))


@print_style()
def study_figure(result: StudyResult, words: str) -> Figure:
    """Draw one study: the final score against depth for each transform, and adaptation curves without one."""
    has_accuracy = result.main_metric == "accuracy"
    metric, scale = ("accuracy", 100.0) if has_accuracy else ("loss", 1.0)
    label = "query accuracy (%)" if has_accuracy else "query loss (half the squared error)"
    figure = printed_figure(TWO_COLUMNS, 2.8)
    left, right = figure.subplots(1, 2)
    _draw_depth(left, result, metric, scale)
    _draw_curves(right, result, metric, scale)
    left.set_xticks(sorted({cell.grid.depth for cell in result.cells}))
    left.margins(x=0.1)
    left.set_xlabel("depth")
    whole_steps(right)
    for axes in (left, right):
        axes.set_ylabel(label)
        if has_accuracy:
            keep_to_percent(axes)
        else:
            fit_loss_scale(axes, [value for line in axes.lines for value in np.asarray(line.get_ydata(), dtype=float)])
    _name_below(figure, (left, right))
    num = len(result.seeds)
    over = f"{num} seeds" if num > 1 else "the tasks of one seed"
    set_title(figure, f"{words}: mean and 95 % interval over {over}")
    return figure


def _name_below(figure: Figure, panels: tuple[Axes, ...]) -> None:
    """Name the series of each panel below it, where they hide nothing; the figure grows by the rows of names."""
    most_rows = 0
    for axes in panels:
        names = axes.get_legend_handles_labels()[1]
        ncols = 2 if max(map(len, names)) <= _LONG_NAME else 1
        most_rows = max(most_rows, math.ceil(len(names) / ncols))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=ncols, columnspacing=1.0)
    figure.set_figheight(figure.get_figheight() + 0.17 * most_rows)


def _draw_depth(axes: Axes, result: StudyResult, metric: str, scale: float) -> None:
    """Draw one line for each transform over depth; appended linear layers stand beside depth 1."""
    optimizers = list(dict.fromkeys(cell.grid.optimizer for cell in result.cells))
    for index, optimizer in enumerate(optimizers):
        cells = [c for c in result.cells if c.grid.optimizer == optimizer and not c.grid.layers]
        # Side by side, so that no interval hides another.
        where = [cell.grid.depth + 0.05 * (index - (len(optimizers) - 1) / 2) for cell in cells]
        name = "no transform" if optimizer == "none" else optimizer
        means, widths = _means_and_widths([cell.final for cell in cells], metric, scale)
        axes.errorbar(where, means, widths, label=name, **TRANSFORM_SERIES[optimizer]._asdict())
    stacked = [cell for cell in result.cells if cell.grid.layers]
    for index, cell in enumerate(stacked):
        layers = cell.grid.layers or 0
        name = f"depth {cell.grid.depth} + {layers} linear layer{'s' if layers > 1 else ''}"
        where = [cell.grid.depth + 0.15 + 0.08 * index]
        look = Series("black", "+x*1"[index % 4], "none")._asdict()
        axes.errorbar(where, *_means_and_widths([cell.final], metric, scale), label=name, markersize=6, **look)
    if metric == "accuracy" and result.chance_accuracy is not None:
        axes.axhline(scale * result.chance_accuracy, **CHANCE_STYLE)
    for (name, values), (colour, dashes) in zip(result.references.items(), REFERENCE_STYLES, strict=False):
        if math.isfinite(mean := scale * values.mean(metric)):
            axes.axhline(mean, color=colour, linestyle=dashes, linewidth=1.0, label=name)


def _draw_curves(axes: Axes, result: StudyResult, metric: str, scale: float) -> None:
    """Draw the query curves of the cells without a transform, one look for each depth, dashed with appended layers."""
    cells = [cell for cell in result.cells if cell.grid.optimizer == "none"]
    depths = sorted({cell.grid.depth for cell in cells})
    for index, cell in enumerate(cells):
        value = cell.grid
        series = SERIES[depths.index(value.depth) % len(SERIES)]
        look = series._replace(linestyle=_LAYER_DASHES[min(value.layers or 0, 3)])._asdict()
        where = [point.step + 0.04 * (index - (len(cells) - 1) / 2) for point in cell.curve]
        means, widths = _means_and_widths([point.scores for point in cell.curve], metric, scale)
        axes.errorbar(where, means, widths, label=cell_words(value), elinewidth=0.8, **look)


@print_style()
def operators_figure(operators: Mapping[str, Sequence[OptimumReport]]) -> Figure:
    """Draw the learned operators of linear regression beside the best one: what each does to every input direction.

    The inputs are uncorrelated, so the best operator is diagonal; shown are the diagonals, scaled to lie closest to
    it, against the standard deviation of the input, with the spread over seeds as a band.
    """
    figure = printed_figure(TWO_COLUMNS, 3.4)
    axes = figure.add_subplot(1, 1, 1)
    best = np.diag(next(iter(operators.values()))[0].optimal.operator)
    index = np.arange(1, len(best) + 1)
    axes.plot(index, best, label="best operator D*", linewidth=2.0, **Series("black", "", "-")._asdict())
    for series, (value, reports) in zip(SERIES, operators.items(), strict=False):
        present = [report.all_steps for report in reports if report.all_steps is not None]
        if not present:
            continue
        diagonals = np.array([item.scale * np.diag(item.operator) for item in present])
        axes.plot(index, diagonals.mean(axis=0), label=value, **series._asdict())
        low, high = diagonals.min(axis=0), diagonals.max(axis=0)
        axes.fill_between(index, low, high, color=series.color, alpha=0.2, linewidth=0)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlabel("input direction, from most to least variance")
    axes.set_ylabel("gain on the gradient (diagonal of D, scaled)")
    axes.set_xticks(index)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    set_title(figure, "learned operators and the best one; lines: mean over seeds, bands: their range")
    return figure


def _means_and_widths(scores: Sequence[StudyScores], metric: str, scale: float) -> tuple[list[float], list[float]]:
    return [scale * score.mean(metric) for score in scores], [scale * score.half_width(metric) for score in scores]
