"""Figures as a report holds them, and the panel of learned operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mamlcli.common.figures import Series, figure_bytes
from mamlcli.studies.claims.markup import Picture
from mamlcli.studies.layers.optimum import OptimumReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def picture(name: str, figure: Figure, caption: str, narrow: Figure | None = None) -> Picture:
    """Return a figure as the report holds it: NAME.png and NAME.svg, and a narrow layout for phones if there is one."""
    small = figure_bytes(narrow, "png") if narrow is not None else b""
    return Picture(f"{name}.png", figure_bytes(figure, "png"), caption, figure_bytes(figure, "svg"), small)


def draw_operators(axes: Axes, operators: Mapping[str, Sequence[OptimumReport]], looks: Sequence[Series]) -> None:
    """Draw the learned operators of linear regression beside the best one: what each does to every input direction.

    The inputs are uncorrelated, so the best operator is diagonal; shown are the diagonals, scaled to lie closest to
    it, of every seed as thin lines and their mean.

    Args:
        axes: where.
        operators: value key -> of each seed whose operator is finite.
        looks: of each value.
    """
    known = [report for reports in operators.values() for report in reports]
    if not known:  # every training diverged
        return
    best = np.diag(known[0].optimal.operator)
    index = np.arange(1, len(best) + 1)
    axes.plot(index, best, label="best operator", linewidth=2.0, color="black")
    for look, (value, reports) in zip(looks, operators.items(), strict=False):
        present = [report.all_steps for report in reports if report.all_steps is not None]
        if not present:
            continue
        diagonals = np.array([item.scale * np.diag(item.operator) for item in present])
        axes.plot(index, diagonals.mean(axis=0), label=value, **look._replace(linestyle="-")._asdict())
        for diagonal in diagonals:
            axes.plot(index, diagonal, color=look.color, linewidth=0.5, alpha=0.5)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlabel("input direction, from most to least variance")
    axes.set_ylabel("gain on the gradient")
    axes.set_xticks(index)
    axes.legend(loc="best")
