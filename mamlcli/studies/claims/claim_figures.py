"""One figure for each claim shows the scores that it rests on, every seed as a point.

The intervals that decide are those of paired differences, in the forest plot; here nothing is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mamlcli.common.figures import (
    TRANSFORM_SERIES,
    TWO_COLUMNS,
    Series,
    legend_below,
    print_style,
    printed_figure,
    set_title,
    whole_steps,
)
from mamlcli.studies.claims.contrasts import COLLAPSED, LOG_ODDS, LOSS, OPERATOR, CellValue
from mamlcli.studies.claims.figures import draw_operators
from mamlcli.studies.claims.panels import (
    ADVANTAGE_LABELS,
    COLLAPSED_LOOK,
    EQUAL_LOOK,
    MEASURE_LABELS,
    advantages,
    draw_categories,
    draw_references,
    draw_seeds,
    fit_measure,
    look_of,
    measures_of,
    shown_scores,
    values_of,
)
from mamlcli.studies.claims.plan import Plan
from mamlcli.studies.claims.predicted import OPTIMIZER
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.claims.reproduction import Reproduction, value_of_cell
from mamlcli.studies.claims.words import prose

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PLAIN = TRANSFORM_SERIES["none"]
_HEIGHT = 2.3  # inches, of a row of panels


def claim_figures(done: Reproduction) -> dict[str, Figure]:
    """Return the figure of each claim that has the scores for one, by claim."""
    drawn = {claim: draw(done.plan, done.studies) for claim, draw in _FIGURES.items()}
    return {claim: figure for claim, figure in drawn.items() if figure is not None}


def _of_role(studies: Sequence[Study], *roles: str) -> list[Study]:
    return [study for study in studies if study.role in roles and study.scores.get(LOSS)]


def _panels(num_rows: int, num_columns: int, height: float = _HEIGHT) -> tuple[Figure, list[list[Axes]]]:
    figure = printed_figure(TWO_COLUMNS, num_rows * height + 0.7)
    return figure, [list(row) for row in figure.subplots(num_rows, num_columns, squeeze=False)]


def _row_title(row: Sequence[Axes], study: Study) -> None:
    row[0].set_title(study.words)


@print_style()
def c1_figure(plan: Plan, studies: Sequence[Study]) -> Figure | None:
    """Draw the query loss of the shallow, the deeper and the transformed linear models above the floor."""
    studies = _of_role(studies, "linear-regression", "logistic")
    if not studies:
        return None
    figure, rows = _panels(1, len(studies))
    for axes, study in zip(rows[0], studies, strict=True):
        values = sorted(values_of(plan, study, "C1"), key=lambda value: (value.depth, value.optimizer != "none"))
        for index, value in enumerate(values):
            look = look_of(value, is_linear=True)._replace(linestyle="none")
            draw_seeds(axes, [index], [shown_scores(study, LOSS, value.key)], look, "")
        draw_references(axes, study, LOSS)
        axes.set_xticks(range(len(values)), [_layers_name(value) for value in values])
        axes.set_xlim(-0.5, len(values) - 0.4)
        fit_measure(axes, LOSS, [v for value in values for v in shown_scores(study, LOSS, value.key).values()])
        if study.role == "linear-regression":
            axes.set_ylabel("query loss (half the squared error)")
        axes.set_title(study.words)
    legend_below(figure, rows[0], ncols=4)
    return figure


def _layers_name(value: CellValue) -> str:
    layers = f"{value.depth} layer{'s' if value.depth > 1 else ''}"
    return layers if value.optimizer == "none" else f"{layers}\n{prose(value.optimizer)}"


@print_style()
def c2_figure(plan: Plan, studies: Sequence[Study]) -> Figure | None:
    """Draw scores over depth, and beside them the deeper network with about as many parameters as the shallow one."""
    studies = _of_role(studies, "maml")
    if not studies:
        return None
    figure, rows = _panels(len(studies), 2)
    for row, study in zip(rows, studies, strict=True):
        values = values_of(plan, study, "C2")
        sizes = {value_of_cell(cell).key: cell.num_parameters for cell in study.result.cells}
        for axes, measure in zip(row, measures_of(study), strict=False):
            plain = [value for value in values if value.width is None]
            _draw_over_depth(axes, study, measure, plain, _PLAIN, "same width at every depth")
            for value in (value for value in values if value.width is not None):
                label = f"depth {value.depth}, width {value.width}: {sizes.get(value.key, 0):,} parameters"
                label += f" (depth 1: {sizes.get(CellValue(1).key, 0):,})"
                scores = [shown_scores(study, measure, value.key)]
                draw_seeds(axes, [value.depth - 0.12], scores, EQUAL_LOOK, label, is_filled=False, side=-1)
            _finish_depth(axes, study, measure)
        _row_title(row, study)
    legend_below(figure, [axes for row in rows for axes in row], ncols=2)
    return figure


def _draw_over_depth(
    axes: Axes, study: Study, measure: str, values: Sequence[CellValue], look: Series, label: str
) -> None:
    at = [float(value.depth) for value in values]
    draw_seeds(axes, at, [shown_scores(study, measure, value.key) for value in values], look, label)


def _finish_depth(axes: Axes, study: Study, measure: str) -> None:
    draw_references(axes, study, measure)
    fit_measure(axes, measure, [])
    axes.set_xticks(sorted({cell.grid.depth for cell in study.result.cells}))
    axes.set_xlabel("depth (blocks)")


@print_style()
def c3_figure(plan: Plan, studies: Sequence[Study]) -> Figure | None:
    """Draw scores over appended layers, adapted as they are and collapsed before, and adaptation curves."""
    studies = _of_role(studies, "maml")
    if not studies:
        return None
    figure, rows = _panels(len(studies), 3)
    for row, study in zip(rows, studies, strict=True):
        values = values_of(plan, study, "C3")
        stacks = [value for value in values if value.layers]
        for axes, measure in zip(row, measures_of(study), strict=False):
            layers = [float(value.layers) for value in values]
            scores = [shown_scores(study, measure, value.key) for value in values]
            draw_seeds(axes, layers, scores, _PLAIN, "layers adapt as they are")
            scores = [shown_scores(study, measure, value.key + COLLAPSED) for value in stacks]
            at = [value.layers - 0.12 for value in stacks]
            label = "collapsed into one layer before adaptation, at its own best inner rate"
            draw_seeds(axes, at, scores, COLLAPSED_LOOK, label, is_filled=False, side=-1)
            fit_measure(axes, measure, [])
            axes.set_xticks([value.layers for value in values])
            axes.set_xlabel("appended linear layers")
        _draw_curves(row[2], study, values)
        _row_title(row, study)
    legend_below(figure, [axes for row in rows for axes in row[:2]], ncols=2)
    return figure


def _draw_curves(axes: Axes, study: Study, values: Sequence[CellValue]) -> None:
    """Draw the mean accuracy after every inner step for each number of appended layers."""
    keys = [value.key for value in values]
    for cell in (cell for cell in study.result.cells if value_of_cell(cell).key in keys):
        layers = cell.grid.layers or 0
        means = [100.0 * point.scores.mean("accuracy") for point in cell.curve]
        label = f"{layers or 'no'} layer{'s' if layers != 1 else ''}"
        axes.plot([point.step for point in cell.curve], means, label=label, **look_of(value_of_cell(cell))._asdict())
    whole_steps(axes)
    axes.set_ylabel(f"mean {MEASURE_LABELS[LOG_ODDS]}")
    axes.legend(loc="best")


@print_style()
def c4_figure(plan: Plan, studies: Sequence[Study]) -> Figure | None:
    """Draw every transform on the shallow network, with numbers of parameters, beside a deeper plain network."""
    studies = _of_role(studies, "maml", "transforms")
    if not studies:
        return None
    most = max(len(values_of(plan, study, "C4")) for study in studies)
    figure, rows = _panels(len(studies), 2, 0.6 + 0.34 * most)
    for row, study in zip(rows, studies, strict=True):
        values = sorted(values_of(plan, study, "C4"), key=lambda value: value.depth)
        _draw_values(row, study, values)
    legend_below(figure, [axes for row in rows for axes in row], ncols=4)
    return figure


def _draw_values(row: Sequence[Axes], study: Study, values: Sequence[CellValue]) -> None:
    """Draw values one below the other in a panel for each measure; names, with parameters, stand at the first."""
    counts = {
        value_of_cell(cell).key: f"{cell.num_parameters:,}"
        + (f" + {cell.num_transform_parameters:,}" if cell.num_transform_parameters else "")
        for cell in study.result.cells
    }
    names = [f"{prose(value.key)}\n{counts.get(value.key, '?')} parameters" for value in values]
    looks = [look_of(value) for value in values]
    for index, (axes, measure) in enumerate(zip(row, measures_of(study), strict=False)):
        draw_categories(axes, study, measure, values, looks, names if index == 0 else [""] * len(names))
    _row_title(row, study)


@print_style()
def c5_figure(plan: Plan, studies: Sequence[Study]) -> Figure | None:
    """Draw what KFO gains over no transform at each depth; the depths that are compared are filled."""
    studies = [study for study in _of_role(studies, "maml") if advantages(study, LOSS, OPTIMIZER)]
    if not studies:
        return None
    figure, rows = _panels(len(studies), 2)
    for row, study in zip(rows, studies, strict=True):
        _draw_advantages(row, plan, study, "C5")
        _row_title(row, study)
    return figure


def _draw_advantages(row: Sequence[Axes], plan: Plan, study: Study, claim: str) -> None:
    compared = {
        value.depth
        for contrast in plan.contrasts
        if (contrast.claim, contrast.study) == (claim, study.key) and len(contrast.terms) == 4
        for value in values_of(plan, study, claim)
        if value.key in contrast.cells
    }
    for axes, measure in zip(row, measures_of(study), strict=False):
        found, look = advantages(study, measure, OPTIMIZER), TRANSFORM_SERIES[OPTIMIZER]
        axes.plot(list(found), [sum(of.values()) / len(of) for of in found.values()], color=look.color, linewidth=0.9)
        for depth, differences in found.items():
            is_compared = depth in compared
            series = look._replace(linestyle="none")
            draw_seeds(axes, [depth], [differences], series, "", is_filled=is_compared)
        axes.axhline(0.0, color="black", linewidth=0.7)
        axes.set_xticks(list(found))
        axes.set_xlabel(f"depth (filled: compared by {claim})")
        axes.set_ylabel(f"{ADVANTAGE_LABELS[measure]}\nby {prose(OPTIMIZER)}")


@print_style()
def c6_figure(plan: Plan, studies: Sequence[Study]) -> Figure | None:
    """Draw under ANIL every value that the claim compares, and what KFO gains at each depth."""
    studies = _of_role(studies, "anil")
    if not studies:
        return None
    figure, rows = _panels(2 * len(studies), 2, 2.6)
    for index, study in enumerate(studies):
        _draw_values(rows[2 * index], study, values_of(plan, study, "C6"))
        _draw_advantages(rows[2 * index + 1], plan, study, "C6")
    legend_below(figure, [axes for row in rows for axes in row], ncols=4)
    return figure


@print_style()
def c7_figure(plan: Plan, studies: Sequence[Study]) -> Figure | None:
    """Draw how far the learned operators of linear regression are from the best one, and what they do."""
    studies = [study for study in _of_role(studies, "linear-regression") if study.scores.get(OPERATOR)]
    if not studies:
        return None
    study = studies[0]
    figure, rows = _panels(1, 2, 2.6)
    values = values_of(plan, study, "C7")
    looks = [look_of(value, is_linear=True)._replace(linestyle="none") for value in values]
    draw_categories(rows[0][0], study, OPERATOR, values, looks, [_layers_name(value) for value in values])
    rows[0][0].set_xlim(left=0.0)
    drawn = [(value, look) for value, look in zip(values, looks, strict=True) if value.key in study.operators]
    operators = {_layers_name(value).replace("\n", ", "): study.operators[value.key] for value, _ in drawn}
    draw_operators(rows[0][1], operators, [look for _, look in drawn])
    set_title(figure, f"{study.words}: learned operators and the best one")
    return figure


_FIGURES: dict[str, Callable[[Plan, Sequence[Study]], Figure | None]] = {
    "C1": c1_figure,
    "C2": c2_figure,
    "C3": c3_figure,
    "C4": c4_figure,
    "C5": c5_figure,
    "C6": c6_figure,
    "C7": c7_figure,
}

CAPTIONS = {
    "C1": "Linear models of one layer, with and without a gradient transform, and of more layers, after adaptation.",
    "C2": "Scores after adaptation over depth, and of a deeper network with about as many parameters as depth 1.",
    "C3": "Linear layers appended to depth 1, adapted as they are, and collapsed into one before adaptation, at its "
    "own best inner rate; mean accuracy after each inner step.",
    "C4": "Gradient transforms on depth 1, and plain networks; parameters of the model + of the transform.",
    "C5": "What a transform gains over none at each depth.",
    "C6": "ANIL: the values compared, and what a transform gains over none at each depth.",
    "C7": "Distance of the learned operators to the best one, and their gains on each input direction.",
}
EVERY_SEED = "Small points: every seed; large: their mean."
