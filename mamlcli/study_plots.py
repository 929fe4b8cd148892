"""A study's result -> figure.png and figure.svg: scores against the axis, curves of each value, or the grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamlcli.plots import (
    CHANCE_STYLE,
    GREY,
    REFERENCE_STYLES,
    SERIES,
    TRANSFORM_SERIES,
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
from mamlcli.study_tables import AXIS_WORDS, interval_words, main_metric, value_label
from mamlcli.tables import PERCENT, task_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_HEIGHT = 2.6  # inches
_MOST_VALUES = 6  # on a horizontal axis before their names are turned


@print_style()
def save_study_figure(result: dict[str, Any], folder: Path) -> list[Path]:
    """Draw a study's result as figure.png and figure.svg; return their paths.

    Args:
        result: the machine-readable result, with at least one cell.
        folder: the study's, each picture written whole or not at all.
    """
    is_grid = isinstance(result["cells"][0]["value"], dict)
    figure = _grid_figure(result) if is_grid else _axis_figure(result)
    set_title(figure, _title(result))
    return save_figure(figure, folder / "figure.png")


def _axis_figure(result: dict[str, Any]) -> Figure:
    metrics = [metric for metric in ("accuracy", "loss") if metric in result["cells"][0]]
    num_rows = len(metrics)
    figure = printed_figure(TWO_COLUMNS, num_rows * _PANEL_HEIGHT + 0.8)
    panels = list(figure.subplots(num_rows, 2, squeeze=False).ravel())
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_axis(axes, result, metric)
    _draw_curves(panels[len(metrics)], result, main_metric(result))
    if num_rows == 1:
        legend_below(figure, panels, ncols=2)
    else:  # beside the curves there is room
        _legend_panel(panels[-1], panels[:-1])
    return figure


def _legend_panel(axes: Axes, named: list[Axes]) -> None:
    """Name every series of the other panels in a panel of its own."""
    handles: dict[str, Any] = {}
    for one in named:
        handles |= dict(zip(*reversed(one.get_legend_handles_labels()), strict=True))
    axes.set_axis_off()
    axes.legend(handles.values(), handles.keys(), loc="center left")


def _draw_axis(axes: Axes, result: dict[str, Any], metric: str) -> None:
    """Draw a metric after adaptation against the axis, with the capacity arm and the references."""
    cells = [cell for cell in result["cells"] if cell[metric]["mean"] is not None]
    labels = [value_label(cell["value"]) for cell in result["cells"]]
    positions = {label: index for index, label in enumerate(labels)}
    where = [positions[value_label(cell["value"])] for cell in cells]
    is_ordered = "optimizer" not in AXIS_WORDS[result["axis"]]
    style = SERIES[0] if is_ordered else SERIES[0]._replace(linestyle="none")
    means, widths = _means_and_widths([cell[metric] for cell in cells], metric)
    axes.errorbar(where, means, widths, label="meta-learned, after adaptation", zorder=3, **style._asdict())
    alone = [cell for cell in cells if metric in cell.get("capacity", {})]
    if alone:
        means, widths = _means_and_widths([cell["capacity"][metric] for cell in alone], metric)
        at = [positions[value_label(cell["value"])] for cell in alone]
        label = f"each task alone, {alone[0]['capacity']['shots']} examples"
        axes.errorbar(at, means, widths, label=label, **SERIES[1]._asdict())
    _draw_references(axes, result, metric)
    if metric == "loss" and "closed_form" in result:
        _draw_closed_form(axes, result, positions)
    turned: dict[str, Any] = {} if is_ordered and len(labels) <= _MOST_VALUES else {"rotation": 30, "ha": "right"}
    axes.set_xticks(range(len(labels)), labels, **turned)
    axes.margins(x=0.08)
    axes.set_xlabel(AXIS_WORDS[result["axis"]])
    axes.set_ylabel(_metric_label(result, metric))
    if metric == "accuracy":
        keep_to_percent(axes)
    else:
        fit_loss_scale(axes, [cell[metric]["mean"] for cell in cells])


def _draw_references(axes: Axes, result: dict[str, Any], metric: str) -> None:
    for (name, values), (colour, dashes) in zip(result.get("references", {}).items(), REFERENCE_STYLES, strict=False):
        if values.get(metric, {}).get("mean") is not None:
            mean = _scale(metric) * values[metric]["mean"]
            axes.axhline(mean, color=colour, linestyle=dashes, linewidth=1.1, label=name)
    if metric == "accuracy" and result.get("chance_accuracy"):
        axes.axhline(PERCENT * result["chance_accuracy"], **CHANCE_STYLE)


def _draw_closed_form(axes: Axes, result: dict[str, Any], positions: dict[str, int]) -> None:
    found = result["closed_form"]
    marks: dict[str, Any] = {"linewidth": 2, "zorder": 4}
    shallow = positions.get("1", 0)
    label = "one layer, closed form (endless support)"
    axes.scatter([shallow], [found["shallow_infinite_support"]], color="black", marker="_", s=300, label=label, **marks)
    label = "one layer from its best start (Monte Carlo)"
    axes.scatter([shallow], [found["shallow_from_zero"]["mean"]], color=GREY, marker="x", s=40, label=label, **marks)
    axes.axhline(
        found["preconditioned_one_step"], color=GREY, linestyle=(0, (5, 1)), linewidth=1.0,
        label="best gradient transform, one step (closed form)",
    )  # fmt: skip


def _draw_curves(axes: Axes, result: dict[str, Any], metric: str) -> None:
    """Draw the adaptation curve of every axis value."""
    cells, words = result["cells"], AXIS_WORDS[result["axis"]]
    is_ordered = "optimizer" not in AXIS_WORDS[result["axis"]]
    for index, cell in enumerate(cells):
        points = [point for point in cell["curve"] if point[metric]["mean"] is not None]
        means, widths = _means_and_widths([point[metric] for point in points], metric)
        label = f"{words} {value_label(cell['value'])}" if is_ordered else value_label(cell["value"])
        series = _shade(index, len(cells)) if is_ordered else TRANSFORM_SERIES[cell["value"]]
        # Side by side: bands of several values would hide each other.
        where = [point["step"] + 0.05 * (index - (len(cells) - 1) / 2) for point in points]
        axes.errorbar(where, means, widths, label=label, elinewidth=0.8, **series._asdict())
    whole_steps(axes)
    axes.set_ylabel(_metric_label(result, metric))
    if metric == "accuracy":
        keep_to_percent(axes)
    else:
        means = [point[metric]["mean"] for cell in cells for point in cell["curve"]]
        fit_loss_scale(axes, [math.nan if mean is None else mean for mean in means])


def _shade(index: int, num: int) -> Series:
    """Return the look of an ordered value: from dark to light, with a marker and dashes of its own."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    own = SERIES[index % len(SERIES)]
    return own._replace(color=to_hex(colormaps["viridis"](0.85 * index / max(num - 1, 1))))


def _grid_figure(result: dict[str, Any]) -> Figure:
    """Draw score against depth, a line for each optimizer, and their advantage over the first one."""
    metric, cells = main_metric(result), result["cells"]
    figure = printed_figure(TWO_COLUMNS, 3.3)
    scores, advantages = figure.subplots(1, 2)
    optimizers = list(dict.fromkeys(cell["value"]["optimizer"] for cell in cells))
    for index, name in enumerate(optimizers):
        own = {cell["value"]["depth"]: cell[metric] for cell in cells if cell["value"]["optimizer"] == name}
        _draw_line(scores, own, metric, index, name)
        if index:
            gain = {
                c["a"]["depth"]: c["difference"]
                for c in result["comparisons"]
                if c["metric"] == metric and c["a"]["optimizer"] == name and c["a"]["depth"] == c["b"]["depth"]
            }
            _draw_line(advantages, gain, metric, index, name)
    advantages.axhline(0.0, color="black", linewidth=0.8)
    scores.set_ylabel(_metric_label(result, metric))
    points = "accuracy, points" if metric == "accuracy" else "loss"
    advantages.set_ylabel(f"difference to {optimizers[0]} ({points})")
    for axes in (scores, advantages):
        axes.set_xticks(sorted({cell["value"]["depth"] for cell in cells}))
        axes.set_xlabel("depth")
    legend_below(figure, [scores], ncols=6)
    return figure


def _draw_line(axes: Axes, by_depth: dict[int, Any], metric: str, index: int, label: str) -> None:
    known = {depth: value for depth, value in sorted(by_depth.items()) if value["mean"] is not None}
    means, widths = _means_and_widths(list(known.values()), metric)
    # Side by side rather than on top of each other; the depth is the nearest whole number.
    where = [depth + 0.04 * index for depth in known]
    axes.errorbar(where, means, widths, label=label, **TRANSFORM_SERIES[label]._asdict())


def _means_and_widths(values: list[dict[str, Any]], metric: str) -> tuple[list[float], list[float]]:
    widths = [value.get("ci95_over_seeds", value.get("ci95_over_tasks")) or 0.0 for value in values]
    return [_scale(metric) * value["mean"] for value in values], [_scale(metric) * width for width in widths]


def _scale(metric: str) -> float:
    return PERCENT if metric == "accuracy" else 1.0


def _metric_label(result: dict[str, Any], metric: str) -> str:
    if metric == "accuracy":
        return "query accuracy (%)"
    is_classification = "accuracy" in result["cells"][0]
    return "query loss (cross-entropy, nats)" if is_classification else "query loss (half the squared error)"


def _title(result: dict[str, Any]) -> str:
    protocol = result["protocol"]
    return (
        f"{result['study']}: {result['recipe']} ({task_words(protocol)}), {protocol['num_tasks']} "
        f"{protocol['split']} tasks, {protocol['inner_steps']} inner steps\n{interval_words(result)}"
    )
