"""Records -> figures. Labelled axes, intervals, colours that colour-blind readers tell apart."""

from __future__ import annotations

import io
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamlcli.files import atomic_write
from mamlcli.tables import task_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
_REFERENCE_STYLES = ((GREEN, "--"), (PURPLE, "-."), (GREY, ":"))


def new_figure(width: float, height: float) -> Figure:
    """Return a figure that needs no display and takes nothing from global state."""
    # matplotlib wants a writable folder of its own; a read-only home must not cost the figure.
    if not os.access(Path.home(), os.W_OK):
        os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_curve(report: dict[str, Any], path: Path) -> None:
    """Draw the adaptation curve of an evaluation: support and query against inner steps.

    Args:
        report: the content of evaluation.json.
        path: the picture, written whole or not at all.
    """
    has_accuracy = "accuracy" in report["final"]
    figure = new_figure(8.6 if has_accuracy else 5.6, 3.6)
    panels = ["accuracy", "loss"] if has_accuracy else ["loss"]
    for index, quantity in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _draw_arm(axes, report, quantity, f"support_{quantity}", ORANGE, "support")
        _draw_arm(axes, report, quantity, quantity, BLUE, "query")
        _draw_references(axes, report, quantity)
        _label(axes, report, quantity)
        if index == 0:
            handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.suptitle(_title(report), fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(path, buffer.getvalue())


def _draw_arm(axes: Axes, report: dict[str, Any], quantity: str, key: str, colour: str, label: str) -> None:
    scale = 100.0 if quantity == "accuracy" else 1.0
    steps = [point["step"] for point in report["curve"]]
    # A mean that overflowed is None; a gap in the line stands for it.
    means = [scale * _or_nan(point[key]["mean"]) for point in report["curve"]]
    widths = [scale * (point[key]["ci95_over_tasks"] or 0.0) for point in report["curve"]]
    axes.plot(steps, means, color=colour, marker="o", markersize=3.5, label=label)
    low = [mean - width for mean, width in zip(means, widths, strict=True)]
    high = [mean + width for mean, width in zip(means, widths, strict=True)]
    axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _draw_references(axes: Axes, report: dict[str, Any], quantity: str) -> None:
    scale = 100.0 if quantity == "accuracy" else 1.0
    for (name, values), (colour, dashes) in zip(report["references"].items(), _REFERENCE_STYLES, strict=False):
        if quantity in values:
            axes.axhline(
                scale * _or_nan(values[quantity]["mean"]), color=colour, linestyle=dashes, linewidth=1.2, label=name
            )
    if quantity == "accuracy" and report.get("chance_accuracy"):
        axes.axhline(scale * report["chance_accuracy"], color="black", linestyle=":", linewidth=1.2, label="chance")


def _label(axes: Axes, report: dict[str, Any], quantity: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("inner steps")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    is_squared = "accuracy" not in report["final"]
    loss_name = "loss (half the squared error)" if is_squared else "loss (cross-entropy, nats)"
    axes.set_ylabel("accuracy (%)" if quantity == "accuracy" else loss_name)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _title(report: dict[str, Any]) -> str:
    protocol = report["protocol"]
    return (
        f"{report['recipe']}: {task_words(protocol)}; mean and 95 % interval over "
        f"{protocol['num_tasks']} {protocol['split']} tasks"
    )
