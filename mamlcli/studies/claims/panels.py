"""The panels that the figures of claims are made of: scores of every seed as points, their means beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mamlcli.common.figures import (
    CHANCE_STYLE,
    GREY,
    LAYER_SERIES,
    TRANSFORM_SERIES,
    LineStyle,
    Series,
    fit_loss_scale,
)
from mamlcli.common.tables import PERCENT
from mamlcli.studies.claims.claims import FLOORS
from mamlcli.studies.claims.contrasts import LOG_ODDS, LOSS, OPERATOR, CellValue, Contrast, better
from mamlcli.studies.claims.plan import Family, Plan
from mamlcli.studies.claims.predictions import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SPREAD = 0.12  # of the points of one value, in units of the axis of categories
MEASURE_LABELS = {
    LOSS: "query loss (nats)",
    LOG_ODDS: "query accuracy (%)",
    OPERATOR: "distance to the best operator",
}
# Of floors and baselines, the same in every panel; in greys, as colours are those of values.
REFERENCE_LOOKS: dict[str, tuple[str, LineStyle]] = {
    "posterior mean": ("black", (0, (6, 2))),
    "Bayes predictive": ("black", (0, (6, 2))),
    "MAP": (GREY, (0, (4, 1, 1, 1))),
    "true weights": (GREY, (0, (1, 1))),
}
# Not of a value that is meta-learned at the width of the others: no colour of layers or transforms.
COLLAPSED_LOOK, EQUAL_LOOK = Series("black", "d", "none"), Series("black", "h", "none")
ADVANTAGE_LABELS = {LOSS: "query loss saved (nats)", LOG_ODDS: "log-odds of accuracy gained"}


def shown_scores(study: Study, measure: str, value: str) -> dict[int, float]:
    """Return one value's scores by seed as they are drawn: log-odds as the accuracy that they are of, in per cent."""
    scores = study.scores.get(measure, {}).get(value, {})
    if measure != LOG_ODDS:
        return dict(scores)
    return {seed: PERCENT / (1.0 + float(np.exp(-score))) for seed, score in scores.items()}


def measures_of(study: Study) -> list[str]:
    """Return query loss, and log-odds of accuracy where the study has them."""
    return [measure for measure in (LOSS, LOG_ODDS) if study.scores.get(measure)]


def values_of(plan: Plan, study: Study, claim: str) -> list[CellValue]:
    """Return the values of a study that a claim's predictions are about, in the order of the family."""
    wanted = {cell for c in plan.contrasts if (c.claim, c.study) == (claim, study.key) for cell in c.cells}
    return [value for value in family_of(plan, study).values if value.key in wanted and value.key in study.scores[LOSS]]


def family_of(plan: Plan, study: Study) -> Family:
    """Return the family of a study."""
    return next(family for family in plan.families if family.key == study.key)


def advantages(study: Study, measure: str, optimizer: str) -> dict[int, dict[int, float]]:
    """Return what a transform gains over none, depth -> seed -> difference, positive where it helps."""
    found = {}
    for depth in range(1, 17):
        pair = CellValue(depth, optimizer=optimizer).key, CellValue(depth).key
        contrast = Contrast("", "", study.key, measure, "", better(*pair, measure), margin=1.0)
        if differences := contrast.differences(study.scores):
            found[depth] = differences
    return found


def look_of(value: CellValue, *, is_linear: bool = False) -> Series:
    """Return how a value looks in every figure: by its transform, or in a shade of blue by its linear layers.

    Args:
        value: of a family.
        is_linear: whether its model is linear, so that its depth counts linear layers.
    """
    if value.optimizer != "none":
        return TRANSFORM_SERIES[value.optimizer]
    more = value.layers + (value.depth - 1 if is_linear else 0)
    return LAYER_SERIES[min(more, len(LAYER_SERIES) - 1)]


def draw_seeds(
    axes: Axes,
    at: Sequence[float],
    scores: Sequence[Mapping[int, float]],
    series: Series,
    label: str,
    *,
    is_horizontal: bool = False,
    is_filled: bool = True,
    side: int = 1,
) -> None:
    """Draw the scores of every seed as points beside the mean of each value, and a line through the means.

    Args:
        axes: where.
        at: [num_values], position of each value on the axis of categories.
        scores: of each value, by seed.
        series: look of the means; a linestyle of "none" joins nothing.
        label: for the legend; "" for none.
        is_horizontal: whether the categories stand on the vertical axis.
        is_filled: whether the markers of the means are.
        side: of the means on which the points stand, 1 for higher positions or -1.
    """
    known = [(where, list(by_seed.values())) for where, by_seed in zip(at, scores, strict=True) if by_seed]
    if not known:
        return
    where, means = [item[0] for item in known], [float(np.mean(item[1])) for item in known]
    face = series.color if is_filled else "white"
    look = {**series._asdict(), "markerfacecolor": face, "label": label or "_", "zorder": 3, "markersize": 5.0}
    axes.plot(*((means, where) if is_horizontal else (where, means)), **look)
    for centre, values in known:
        spread = _SPREAD * (np.arange(len(values)) / max(len(values) - 1, 1) - 0.5)
        beside = centre + side * (spread + 1.6 * _SPREAD)
        x, y = (values, beside) if is_horizontal else (beside, values)
        axes.scatter(x, y, s=9, color=series.color, alpha=0.55, linewidth=0, zorder=2)


def draw_references(axes: Axes, study: Study, measure: str, *, is_horizontal: bool = False) -> None:
    """Draw floors, baselines and chance as lines across a panel."""
    if measure == OPERATOR:
        return
    draw = axes.axvline if is_horizontal else axes.axhline
    metric, scale = ("accuracy", PERCENT) if measure == LOG_ODDS else ("loss", 1.0)
    for name, scores in study.result.references.items():
        colour, dashes = REFERENCE_LOOKS.get(name, (GREY, "-."))
        if np.isfinite(mean := scale * scores.mean(metric)):
            label = f"{name} (floor)" if name in FLOORS.values() else name
            draw(mean, color=colour, linestyle=dashes, linewidth=1.1, label=label)
    if measure == LOG_ODDS and study.result.chance_accuracy is not None:
        draw(PERCENT * study.result.chance_accuracy, **CHANCE_STYLE)


def draw_categories(
    axes: Axes, study: Study, measure: str, values: Sequence[CellValue], looks: Sequence[Series], names: Sequence[str]
) -> None:
    """Draw values one below the other, each with the scores of its seeds; the first stands at the top."""
    for index, (value, look) in enumerate(zip(values, looks, strict=True)):
        draw_seeds(axes, [index], [shown_scores(study, measure, value.key)], look, "", is_horizontal=True)
    draw_references(axes, study, measure, is_horizontal=True)
    axes.set_yticks(range(len(values)), names)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(MEASURE_LABELS[measure])


def fit_measure(axes: Axes, measure: str, values: Iterable[float]) -> None:
    """Label a vertical axis of scores; losses that differ by factors get a logarithmic one."""
    axes.set_ylabel(MEASURE_LABELS[measure])
    if measure != LOG_ODDS:
        fit_loss_scale(axes, values)
