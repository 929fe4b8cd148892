"""A study's result -> figure.png and figure.svg: scores against the axis, curves of each value, or the grid."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamlcli.files import atomic_write
from mamlcli.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure
from mamlcli.study_tables import AXIS_WORDS, interval_words, main_metric, value_label
from mamlcli.tables import PERCENT, task_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE_STYLES = ((GREEN, "--"), (PURPLE, "-."), (GREY, ":"))
# Okabe and Ito's palette, for named lines that have no order.
_NAMED = (GREY, ORANGE, BLUE, GREEN, PURPLE, "#E69F00", "#56B4E9")
_MARKERS = "osD^vPX"


def save_study_figure(result: dict[str, Any], folder: Path) -> None:
    """Draw a study's result as figure.png and figure.svg.

    Args:
        result: the machine-readable result, with at least one cell.
        folder: the study's, each picture written whole or not at all.
    """
    is_grid = isinstance(result["cells"][0]["value"], dict)
    figure = _grid_figure(result) if is_grid else _axis_figure(result)
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        # Without a date, the same result gives the same file.
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
        atomic_write(folder / f"figure.{kind}", buffer.getvalue())


def _axis_figure(result: dict[str, Any]) -> Figure:
    metrics = [metric for metric in ("loss", "accuracy") if metric in result["cells"][0]]
    figure = new_figure(4.0 * (len(metrics) + 1), 4.2)
    panels = figure.subplots(1, len(metrics) + 1)
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_axis(axes, result, metric)
    _draw_curves(panels[-1], result, main_metric(result))
    handles: dict[str, Any] = {}
    for axes in panels[:-1]:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    num_columns = 2 * len(metrics)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=num_columns, fontsize=8, frameon=False
    )
    figure.suptitle(_title(result), fontsize=9)
    return figure


def _draw_axis(axes: Axes, result: dict[str, Any], metric: str) -> None:
    """Draw a metric after adaptation against the axis, with the capacity arm and the references."""
    cells = [cell for cell in result["cells"] if cell[metric]["mean"] is not None]
    labels = [value_label(cell["value"]) for cell in result["cells"]]
    positions = {label: index for index, label in enumerate(labels)}
    where = [positions[value_label(cell["value"])] for cell in cells]
    is_ordered = "optimizer" not in AXIS_WORDS[result["axis"]]
    style: dict[str, Any] = {
        "marker": "o",
        "markersize": 5,
        "capsize": 3,
        "linestyle": "-" if is_ordered else "none",
    }
    means, widths = _means_and_widths([cell[metric] for cell in cells], metric)
    axes.errorbar(where, means, widths, color=BLUE, label="meta-learned, after adaptation", zorder=3, **style)
    alone = [cell for cell in cells if metric in cell.get("capacity", {})]
    if alone:
        means, widths = _means_and_widths([cell["capacity"][metric] for cell in alone], metric)
        at = [positions[value_label(cell["value"])] for cell in alone]
        label = f"each task alone, {alone[0]['capacity']['shots']} examples"
        axes.errorbar(at, means, widths, color=ORANGE, label=label, **{**style, "marker": "s"})
    _draw_references(axes, result, metric)
    if metric == "loss" and "closed_form" in result:
        _draw_closed_form(axes, result, positions)
    axes.set_xticks(range(len(labels)), labels, rotation=0 if is_ordered else 30)
    axes.set_xlabel(AXIS_WORDS[result["axis"]])
    axes.set_ylabel(_metric_label(result, metric))
    _tidy(axes)


def _draw_references(axes: Axes, result: dict[str, Any], metric: str) -> None:
    for (name, values), (colour, dashes) in zip(result.get("references", {}).items(), _LINE_STYLES, strict=False):
        if values.get(metric, {}).get("mean") is not None:
            axes.axhline(
                _scale(metric) * values[metric]["mean"], color=colour, linestyle=dashes, linewidth=1.2, label=name
            )
    if metric == "accuracy" and result.get("chance_accuracy"):
        axes.axhline(PERCENT * result["chance_accuracy"], color="black", linestyle=":", linewidth=1.2, label="chance")


def _draw_closed_form(axes: Axes, result: dict[str, Any], positions: dict[str, int]) -> None:
    found = result["closed_form"]
    marks: dict[str, Any] = {"marker": "_", "s": 400, "linewidth": 2, "zorder": 4}
    shallow = positions.get("1", 0)
    label = "one layer, closed form (endless support)"
    axes.scatter([shallow], [found["shallow_infinite_support"]], color="black", label=label, **marks)
    label = "one layer from its best start (Monte Carlo)"
    axes.scatter([shallow], [found["shallow_from_zero"]["mean"]], color=GREY, label=label, **marks)
    axes.axhline(
        found["preconditioned_one_step"], color=GREY, linestyle=(0, (5, 1)), linewidth=1.0,
        label="best gradient transform, one step (closed form)",
    )  # fmt: skip


def _draw_curves(axes: Axes, result: dict[str, Any], metric: str) -> None:
    """Draw the adaptation curve of every axis value."""
    cells, words = result["cells"], AXIS_WORDS[result["axis"]]
    is_ordered = "optimizer" not in AXIS_WORDS[result["axis"]]
    for index, cell in enumerate(cells):
        colour = _shade(index, len(cells)) if is_ordered else _NAMED[index % len(_NAMED)]
        points = [point for point in cell["curve"] if point[metric]["mean"] is not None]
        means, widths = _means_and_widths([point[metric] for point in points], metric)
        steps = [point["step"] for point in points]
        label = f"{words} {value_label(cell['value'])}" if is_ordered else value_label(cell["value"])
        marker = _MARKERS[index % len(_MARKERS)]
        axes.plot(steps, means, color=colour, marker=marker, markersize=4, linewidth=1.5, label=label)
        low = [mean - width for mean, width in zip(means, widths, strict=True)]
        high = [mean + width for mean, width in zip(means, widths, strict=True)]
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("inner steps")
    axes.set_ylabel(_metric_label(result, metric))
    axes.legend(fontsize=8, frameon=False)
    _tidy(axes)


def _grid_figure(result: dict[str, Any]) -> Figure:
    """Draw score against depth, a line for each optimizer, and their advantage over the first one."""
    metric, cells = main_metric(result), result["cells"]
    figure = new_figure(9.0, 4.0)
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
        _tidy(axes)
    figure.legend(*scores.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.suptitle(_title(result), fontsize=9)
    return figure


def _draw_line(axes: Axes, by_depth: dict[int, Any], metric: str, index: int, label: str) -> None:
    known = {depth: value for depth, value in sorted(by_depth.items()) if value["mean"] is not None}
    means, widths = _means_and_widths(list(known.values()), metric)
    # Side by side rather than on top of each other; the depth is the nearest whole number.
    where = [depth + 0.03 * index for depth in known]
    axes.errorbar(
        where, means, widths, color=_NAMED[index % len(_NAMED)], marker=_MARKERS[index % len(_MARKERS)],
        markersize=4.5, capsize=2, label=label,
    )  # fmt: skip


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


def _shade(index: int, num: int) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    colour: tuple[float, float, float, float] = colormaps["viridis"](0.85 * index / max(num - 1, 1))
    return colour


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _title(result: dict[str, Any]) -> str:
    protocol = result["protocol"]
    return (
        f"{result['study']}: {result['recipe']} ({task_words(protocol)}), {protocol['num_tasks']} "
        f"{protocol['split']} tasks, {protocol['inner_steps']} inner steps\n{interval_words(result)}"
    )
