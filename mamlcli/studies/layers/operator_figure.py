"""The operators on the collapsed heads of image networks are drawn side by side as spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mamlcli.common.figures import GREY, TWO_COLUMNS, Series, print_style, printed_figure, set_title
from mamlcli.studies.layers.image_operators import HeadOperator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Smallest singular value drawn, relative to the mean: rounding lies below.
_LOWEST = 1e-4


@print_style()
def head_operators_figure(
    operators: Mapping[str, Sequence[HeadOperator]], words: str, looks: Mapping[str, Series]
) -> Figure:
    """Draw the spectra of head operators, a panel a value: each seed a thin line, their mean a thick one.

    Args:
        operators: by value in words, those with appended layers first; at least one of each, of heads of one size.
        words: the study, for the title.
        looks: of each value; the colours of its lines.
    """
    figure = printed_figure(TWO_COLUMNS, 2.6)
    panels = figure.subplots(1, len(operators), sharey=True, squeeze=False)[0]
    for axes, (name, of_value) in zip(panels, operators.items(), strict=True):
        _draw_spectra(axes, of_value, looks[name].color)
        # All are of the network of one block.
        shown = name.removeprefix("depth 1, ").replace("kfo", "KFO")
        axes.set_title(f"{shown}\n{_distance_words(of_value)}")
        axes.set_xlabel("rank")
    panels[0].set_ylabel("singular value / mean")
    num = max(map(len, operators.values()))
    seeds = f"thin: each of {num} seeds, thick: their mean" if num > 1 else "one seed"
    what = "the matrix by which a small inner step multiplies the gradient of the head"
    set_title(figure, f"{words}: {what}\n(appended layers multiplied out); {seeds}; dotted: plain gradients")
    return figure


def _draw_spectra(axes: Axes, operators: Sequence[HeadOperator], color: str) -> None:
    spectra = np.array([operator.spectrum for operator in operators])
    rank = np.arange(1, spectra.shape[1] + 1)
    axes.axhline(1.0, color=GREY, linewidth=1.0, linestyle=":")
    # Nothing for zeros, which have no place on a logarithmic axis.
    shown = np.where(spectra > _LOWEST, spectra, np.nan)
    for spectrum in shown:
        axes.plot(rank, spectrum, color=color, linewidth=0.6, alpha=0.5)
    mean = spectra.mean(axis=0)
    axes.plot(rank, np.where(mean > _LOWEST, mean, np.nan), color=color, linewidth=1.8)
    axes.set_yscale("log")


def _distance_words(operators: Sequence[HeadOperator]) -> str:
    mean = float(np.mean([operator.distance_to_identity for operator in operators]))
    return f"{mean:.2f} from the identity"
