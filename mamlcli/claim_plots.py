"""Figures of a reproduction: scores against depth, adaptation curves, and learned operators."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mamlcli.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure
from mamlcli.report import cell_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"none": BLUE, "kfo": ORANGE, "meta-sgd": GREEN, "meta-curvature": PURPLE, "kfo-mlp": GREY, "dense": GREEN}
_MARKERS = {"none": "o", "kfo": "s", "meta-sgd": "^", "meta-curvature": "D", "kfo-mlp": "v", "dense": "P"}


def study_png(result: Mapping[str, Any], words: str) -> bytes:
    """Draw one study: the final score against depth for each transform, and adaptation curves without one."""
    has_accuracy = "accuracy" in result["cells"][0]
    metric, scale = ("accuracy", 100.0) if has_accuracy else ("loss", 1.0)
    label = "query accuracy (%)" if has_accuracy else "query loss"
    figure = new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2)
    _draw_depth(left, result, metric, scale)
    _draw_curves(right, result, metric, scale)
    if has_accuracy:
        left.set_ylim(0, 100)
    left.set_xlabel("depth")
    right.set_xlabel("inner steps")
    for axes in (left, right):
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    num = len(result["seeds"])
    over = f"{num} seeds" if num > 1 else "the tasks of one seed"
    figure.suptitle(f"{words}: mean and 95 % interval over {over}", fontsize=9)
    return _png(figure)


def _draw_depth(axes: Axes, result: Mapping[str, Any], metric: str, scale: float) -> None:
    """One line for each transform over depth; appended linear layers stand beside depth 1."""
    optimizers = list(dict.fromkeys(cell["value"]["optimizer"] for cell in result["cells"]))
    for index, optimizer in enumerate(optimizers):
        cells = [c for c in result["cells"] if c["value"]["optimizer"] == optimizer and not c["value"]["layers"]]
        # Side by side, so that no interval hides another.
        where = [cell["value"]["depth"] + 0.05 * (index - (len(optimizers) - 1) / 2) for cell in cells]
        style: dict[str, Any] = {"color": _COLOURS[optimizer], "marker": _MARKERS[optimizer], "capsize": 3}
        name = "no transform" if optimizer == "none" else optimizer
        axes.errorbar(where, _means(cells, metric, scale), _widths(cells, metric, scale), label=name, **style)
    stacked = [cell for cell in result["cells"] if cell["value"]["layers"]]
    for index, cell in enumerate(stacked):
        layers = cell["value"]["layers"]
        name = f"depth {cell['value']['depth']} + {layers} linear layer{'s' if layers > 1 else ''}"
        where = [cell["value"]["depth"] + 0.15 + 0.08 * index]
        mark: dict[str, Any] = {
            "color": "black",
            "marker": "x" if index % 2 else "+",
            "linestyle": "none",
            "capsize": 3,
        }
        axes.errorbar(where, _means([cell], metric, scale), _widths([cell], metric, scale), label=name, **mark)
    if metric == "accuracy" and "chance_accuracy" in result:
        axes.axhline(scale * result["chance_accuracy"], color="black", linestyle=":", linewidth=1.0, label="chance")
    for name, values in result.get("references", {}).items():
        if metric in values and values[metric]["mean"] is not None:
            axes.axhline(scale * values[metric]["mean"], color=GREY, linestyle="--", linewidth=1.0, label=name)


def _draw_curves(axes: Axes, result: Mapping[str, Any], metric: str, scale: float) -> None:
    """The query curves of the cells without a transform: one colour for each depth, dashed with appended layers."""
    cells = [cell for cell in result["cells"] if cell["value"]["optimizer"] == "none"]
    depths = sorted({cell["value"]["depth"] for cell in cells})
    colours = dict(zip(depths, (BLUE, ORANGE, GREEN, PURPLE, GREY), strict=False))
    for cell in cells:
        value = cell["value"]
        steps = [point["step"] for point in cell["curve"]]
        means = [scale * point[metric]["mean"] for point in cell["curve"]]
        style = {0: "-", 1: "--", 2: ":"}.get(value["layers"], "-.")
        axes.plot(steps, means, color=colours[value["depth"]], linestyle=style, marker="o", markersize=3,
                  label=cell_words(value))  # fmt: skip
    axes.legend(fontsize=7, frameon=False)


def operators_png(operators: Mapping[str, list[dict[str, Any]]]) -> bytes:
    """Draw the learned operators of linear regression beside the best one: what each does to every input direction.

    The inputs are uncorrelated, so the best operator is diagonal; shown are the diagonals, scaled to lie closest to
    it, against the standard deviation of the input, with the spread over seeds as a band.
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot(1, 1, 1)
    reports = next(iter(operators.values()))
    best = np.diag(np.asarray(reports[0]["optimal"]["operator"]))
    index = np.arange(1, len(best) + 1)
    axes.plot(index, best, color="black", linewidth=2.2, label="best operator D*")
    colours = [BLUE, ORANGE, GREEN, PURPLE, GREY]
    for colour, (value, found) in zip(colours, operators.items(), strict=False):
        present = [report["all_steps"] for report in found if report["all_steps"] is not None]
        if not present:
            continue
        diagonals = np.array([item["scale"] * np.diag(np.asarray(item["operator"])) for item in present])
        axes.plot(index, diagonals.mean(axis=0), color=colour, marker="o", markersize=3.5, label=value)
        axes.fill_between(index, diagonals.min(axis=0), diagonals.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlabel("input direction, from most to least variance")
    axes.set_ylabel("gain on the gradient (diagonal of D, scaled)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    axes.set_title("learned operators and the best one; lines: mean over seeds, bands: their range", fontsize=9)
    return _png(figure)


def _means(cells: list[Any], metric: str, scale: float) -> list[float]:
    return [scale * cell[metric]["mean"] for cell in cells]


def _widths(cells: list[Any], metric: str, scale: float) -> list[float]:
    key = "ci95_over_seeds" if "ci95_over_seeds" in cells[0][metric] else "ci95_over_tasks"
    return [scale * (cell[metric][key] or 0.0) for cell in cells]


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
