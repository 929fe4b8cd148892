"""The report of `mamlcli layers` as one figure of up to four panels."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamlcli.errors import RunError
from mamlcli.files import atomic_write
from mamlcli.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure
from mamlcli.tables import PERCENT, task_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL_WIDTH, _PANEL_HEIGHT = 4.3, 3.1


def save_layers(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the report to layers.png and layers.svg in a folder, which is made; return their paths.

    Args:
        report: what `layers_report` returns.
        folder: where.

    Raises:
        RunError: the folder cannot be written.
    """
    panels: list[Callable[[Axes, dict[str, Any]], None]] = [_draw_movement, _draw_partial]
    if report["operator"] is not None:
        panels.append(_draw_spectra)
    if not all(row["upper_is_linear"] for row in report["bottom"]):
        panels.append(_draw_bottom)
    num_rows, num_columns = (2, 2) if len(panels) == 4 else (1, len(panels))
    figure = new_figure(num_columns * _PANEL_WIDTH, num_rows * _PANEL_HEIGHT + 0.4)
    for index, draw in enumerate(panels):
        axes = figure.add_subplot(num_rows, num_columns, index + 1)
        draw(axes, report)
        axes.spines[["top", "right"]].set_visible(False)
    protocol = report["protocol"]
    title = (
        f"{report['recipe']}: {task_words(protocol)}; mean and 95 % interval over "
        f"{protocol['num_tasks']} {protocol['split']} tasks"
    )
    figure.suptitle(title, fontsize=9)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("png", "svg"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind)
            paths.append(folder / f"layers.{kind}")
            atomic_write(paths[-1], buffer.getvalue())
    except OSError as error:
        raise RunError(str(folder), expected="a folder that can be written", got=str(error),
                       next_step="Name another with --out") from error  # fmt: skip
    return paths


def _means(rows: list[dict[str, Any]], key: str, scale: float = 1.0) -> tuple[list[float], list[float]]:
    """Return means and half-widths; NaN, which is not drawn, for a mean that does not exist."""
    means = [float("nan") if row[key]["mean"] is None else scale * row[key]["mean"] for row in rows]
    return means, [scale * (row[key]["ci95_over_tasks"] or 0.0) for row in rows]


def _draw_movement(axes: Axes, report: dict[str, Any]) -> None:
    rows = report["movement"]
    means, widths = _means(rows, "relative")
    axes.bar(range(len(rows)), means, yerr=widths, color=BLUE, width=0.6, error_kw={"linewidth": 1.2})
    axes.set_xticks(range(len(rows)), [row["layer"] for row in rows], fontsize=8)
    axes.set_ylabel("distance moved / size of layer")
    axes.set_title("1. How far each layer moves", fontsize=9)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)


def _draw_partial(axes: Axes, report: dict[str, Any]) -> None:
    key = "accuracy" if "accuracy" in report["partial"][0] else "loss"
    scale = PERCENT if key == "accuracy" else 1.0
    for part, colour, marker in (("lower", BLUE, "o"), ("upper", ORANGE, "s")):
        rows = [row for row in report["partial"] if row["part"] == part]
        nums = [row["num_layers"] for row in rows]
        means, widths = _means(rows, key, scale)
        axes.errorbar(
            nums, means, yerr=widths, color=colour, marker=marker, markersize=4, capsize=2, label=f"only the {part}"
        )
    axes.set_xticks(range(len(report["movement"]) + 1))
    axes.set_xlabel("layers that may move")
    is_squared = key == "loss"
    axes.set_ylabel("query loss (half the squared error)" if is_squared else "query accuracy (%)")
    axes.set_title("2. Only some layers may move", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)


def _draw_spectra(axes: Axes, report: dict[str, Any]) -> None:
    operator = report["operator"]
    if operator["optimum"] is not None:
        _draw_optimum(axes, operator["optimum"])
    elif operator["spectrum"] is not None:
        _draw_spectrum(axes, operator["spectrum"], "all layers", "black", "-")
        axes.set_ylabel("singular value")
        axes.set_title("3. Operator on the gradient of the collapsed head", fontsize=9)
    else:
        for row, colour in zip(operator["layers"], (BLUE, ORANGE, GREEN, PURPLE, GREY), strict=False):
            _draw_spectrum(axes, row["right_spectrum"], row["layer"], colour, "-")
        axes.set_ylabel("eigenvalue of the layers below")
        axes.set_title("3. Operator on a layer's gradient", fontsize=9)
    axes.set_yscale("log")
    axes.set_xlabel("rank")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)


def _draw_optimum(axes: Axes, optimum: dict[str, Any]) -> None:
    styles = {
        "optimal": ("best operator of one step", "black", "-"),
        "all_steps": ("all inner steps (fitted)", BLUE, "-"),
        "one_step": ("first inner step", ORANGE, "--"),
        "plain": ("plain gradient, best rate", GREY, ":"),
    }
    for name, (label, colour, dashes) in styles.items():
        if optimum[name] is not None:
            _draw_spectrum(axes, optimum[name]["spectrum"], label, colour, dashes)
    axes.set_ylabel("singular value")
    axes.set_title("3. Operator on the gradient of the collapsed model", fontsize=9)


def _draw_spectrum(axes: Axes, values: list[float], label: str, colour: str, dashes: str) -> None:
    # Values that are zero up to rounding would stretch the axis over many decades of nothing.
    shown = [value for value in values if value > 1e-9 * values[0]]
    marker = "o" if len(shown) <= 40 else None
    ranks = range(1, len(shown) + 1)
    axes.plot(ranks, shown, color=colour, linestyle=dashes, marker=marker, markersize=3, label=label)


def _draw_bottom(axes: Axes, report: dict[str, Any]) -> None:
    rows = report["bottom"]
    nums = [row["num_layers"] for row in rows]
    other = axes.twinx()
    drawn = []
    for one, key, colour, marker, dashes in (
        (axes, "angle_deg", BLUE, "o", "-"),
        (other, "length_ratio", ORANGE, "s", "--"),
    ):
        means, widths = _means(rows, key)
        drawn.append(
            one.errorbar(
                nums, means, yerr=widths, color=colour, marker=marker, linestyle=dashes, markersize=4, capsize=2
            )
        )
        # The legend needs room above the curves, which it cannot see on the other axis.
        highest = max([m + w for m, w in zip(means, widths, strict=True) if math.isfinite(m)], default=1.0)
        one.set_ylim(0, 1.25 * max(highest, 1e-3))
    axes.set_ylabel("angle (degrees)", color=BLUE)
    other.set_ylabel("length, full network / head alone", color=ORANGE)
    other.spines["top"].set_visible(False)
    axes.set_xticks(nums)
    axes.set_xlabel("bottom layers, counted from the input")
    axes.legend(drawn, ["angle", "length ratio"], loc="upper center", ncols=2, fontsize=8, frameon=False)
    axes.set_title("4. Bottom update: full network and head alone", fontsize=9)
    axes.grid(alpha=0.25)
