"""The forest plot shows every prediction of a reproduction in one picture, grouped by claim.

Measures have different units, so each difference is divided by its margin, the smallest effect that matters: the
shaded band from -1 to 1 then means the same in every row. The axis is linear inside the band and logarithmic outside.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mamlcli.common.figures import BLUE, GREY, ONE_COLUMN, ORANGE, PURPLE, TWO_COLUMNS, print_style, printed_figure
from mamlcli.studies.claims.contrasts import CAPPED_LOSS, LOG_ODDS, LOSS, OPERATOR
from mamlcli.studies.claims.decisions import FAILS, HOLDS, NO_EFFECT, UNDECIDED
from mamlcli.studies.claims.predictions import ClaimResult, Row
from mamlcli.studies.claims.words import prose

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT_MEASURES = {LOSS: "loss", LOG_ODDS: "log-odds", CAPPED_LOSS: "capped loss", OPERATOR: "distance"}
_MARKERS = {LOSS: "o", LOG_ODDS: "s", CAPPED_LOSS: "^", OPERATOR: "D"}
VERDICT_COLOURS = {HOLDS: BLUE, FAILS: ORANGE, NO_EFFECT: PURPLE, UNDECIDED: GREY}

_LINE = 0.155  # inches, from one line of text to the next
_NO_BREAK = "\u00a0"
_PALE = 0.5  # opacity of rows that decide nothing


@dataclass(frozen=True)
class Layout:
    """A layout says where the columns of the plot are, in inches, and how long its lines of text may be.

    Attributes:
        width: of the figure.
        left, right: of the axis, from the left edge of the figure.
        measure: where the column of measures begins.
        verdict: where the column of verdicts begins.
        chars: of a prediction's words in a line.
        title_chars: of a claim's statement in a line.
        is_narrow: whether words stand above their rows and the numbers are left off.
    """

    width: float
    left: float
    right: float
    measure: float
    verdict: float
    chars: int
    title_chars: int
    is_narrow: bool = False


WIDE = Layout(width=TWO_COLUMNS, left=2.83, right=4.4, measure=2.27, verdict=5.81, chars=37, title_chars=92)
NARROW = Layout(
    width=ONE_COLUMN, left=0.75, right=2.2, measure=0.05, verdict=2.28, chars=48, title_chars=46, is_narrow=True
)


@dataclass(frozen=True)
class Line:
    """A line of the plot: text at the left, a row's interval, or both.

    Attributes:
        at: distance from the top, in lines of text.
        text: at the left edge; "" for none.
        weight: of the text's font.
        row: whose interval is drawn; None for a line of text alone.
        is_pale: whether it belongs to a row that decides nothing.
    """

    at: float
    text: str = ""
    weight: str = "normal"
    row: Row | None = None
    is_pale: bool = False


def ordered(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of a claim by prediction, all measures of one together; those that decide come first."""
    groups: dict[tuple[bool, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((not row.contrast.decides, row.study_words, row.contrast.words), []).append(row)
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]


def lines_of(claims: Sequence[ClaimResult], layout: Layout) -> Iterator[Line]:
    """Yield the lines of the plot, from the top."""
    at = 0.0
    for claim in claims:
        for text in textwrap.wrap(f"{claim.id} {claim.verdict_words}: {claim.statement}", layout.title_chars):
            yield Line(at, text, "bold")
            at += 1.0
        yield from (below := [*_checks(claim, at, layout)])
        at += len(below) + 0.1
        is_beside = False
        for group in ordered(claim.rows):
            if not (is_beside or group[0].contrast.decides):
                is_beside = True
                yield Line(at, "beside the claim, deciding nothing of it:", is_pale=True)
                at += 1.25
            drawn = list(_group(group, at, layout))
            yield from drawn
            at = max(line.at for line in drawn) + 1.25
        at += 0.6


def _checks(claim: ClaimResult, at: float, layout: Layout) -> Iterator[Line]:
    parts = []
    if claim.checks:
        parts.append(f"exact checks: {sum(check.holds for check in claim.checks)} of {len(claim.checks)} hold")
    if claim.missing:
        parts.append(f"not looked at: {prose('; '.join(claim.missing))}")
    texts = textwrap.wrap("; ".join(parts), layout.title_chars)
    yield from (Line(at + index, text) for index, text in enumerate(texts))


def _group(group: Sequence[Row], at: float, layout: Layout) -> Iterator[Line]:
    """Yield the lines of one prediction: its words and study, and a row for each measure, beside or below them."""
    contrast, is_pale = group[0].contrast, not group[0].contrast.decides
    # Lines end neither within a study's name nor before the number of a depth.
    words = re.sub(r"(?<=depth) (?=\d)", _NO_BREAK, prose(contrast.words))
    study = group[0].study_words.replace(" ", _NO_BREAK)
    texts = textwrap.wrap(f"{study}: {words}" if layout.is_narrow else f"{words} ({study})", layout.chars)
    yield from (Line(at + index, text, is_pale=is_pale) for index, text in enumerate(texts))
    start = at + len(texts) if layout.is_narrow else at + max(0, len(texts) - len(group)) / 2
    yield from (Line(start + index, row=row, is_pale=is_pale) for index, row in enumerate(group))


@print_style()
def forest_figure(claims: Sequence[ClaimResult], title: str, layout: Layout = WIDE) -> Figure:
    """Draw every prediction: seeds as points, mean and interval, in units of its margin.

    Args:
        claims: decided, each with its rows.
        title: of the plot.
        layout: `WIDE` or `NARROW`.
    """
    lines = list(lines_of(claims, layout))
    num = max((line.at for line in lines), default=0.0) + 1.0
    head = textwrap.wrap(title, layout.title_chars)
    top, bottom = _LINE * (len(head) + 3.6), _LINE * (11.4 if layout.is_narrow else 6.6)
    height = top + num * _LINE + bottom
    figure = printed_figure(layout.width, height)
    figure.set_layout_engine("none")
    position = (layout.left / layout.width, bottom / height)
    axes = figure.add_axes((*position, (layout.right - layout.left) / layout.width, num * _LINE / height))
    axes.set_ylim(num - 0.5, -0.5)
    _prepare_axis(axes, [line.row for line in lines if line.row is not None], layout)
    for line in lines:
        _write(figure, axes, line, layout)
        if line.row is not None:
            _draw_row(axes, line)
    for index, text in enumerate(head):
        figure.text(0.05 / layout.width, 1.0 - _LINE * (index + 0.3) / height, text, va="top", weight="bold")
    _legend(figure, layout)
    return figure


def _prepare_axis(axes: Axes, rows: Sequence[Row], layout: Layout) -> None:
    values = [abs(value) for row in rows for value in _scaled(row) if math.isfinite(value)]
    reach = max([2.0, *values])
    axes.set_xscale("symlog", linthresh=1.0, linscale=0.8)
    axes.set_xlim(-1.25 * _reach(rows, -1.0, reach), 1.25 * _reach(rows, 1.0, reach))
    axes.axvspan(-1.0, 1.0, color="black", alpha=0.09, linewidth=0)
    axes.axvline(0.0, color="black", linewidth=0.7)
    ticks = [sign * size for sign in (-1, 1) for size in (1, 10, 100, 1000) if size <= reach]
    low, high = axes.get_xlim()
    ticks = [tick for tick in sorted([0, *ticks]) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(top=True, labeltop=True)
    axes.spines["top"].set_visible(True)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    beyond = (
        "logarithmic beyond the band,\nwhich is too small to matter"
        if layout.is_narrow
        else ("band: too small to matter; beyond it logarithmic")
    )
    axes.set_xlabel(f"mean difference / margin\n({beyond})", labelpad=2, linespacing=1.2)
    for where, text, side in ((0.0, "← opposite", "left"), (1.0, "predicted →", "right")):
        # Above the labels of the ticks.
        axes.annotate(text, (where, 1.0), (0, 20), xycoords="axes fraction", textcoords="offset points", ha=side)


def _reach(rows: Sequence[Row], sign: float, most: float) -> float:
    """Return how far the axis reaches to one side, in margins: at least two, at most `most`."""
    return min(most, max([2.0, *(sign * value for row in rows for value in _scaled(row) if math.isfinite(value))]))


def _scaled(row: Row) -> list[float]:
    """Return the seeds' differences and the ends of the interval, in margins."""
    interval, margin = row.decision.interval, row.contrast.margin
    ends = [interval.mean, interval.low, interval.high]
    return [float(value) / margin for value in (*ends, *row.decision.prediction.differences)]


def _draw_row(axes: Axes, line: Line) -> None:
    assert line.row is not None
    row, at = line.row, line.at
    decision, margin = row.decision, row.contrast.margin
    colour, alpha = VERDICT_COLOURS[decision.verdict], _PALE if line.is_pale else 1.0
    seeds = decision.prediction.differences / margin
    axes.scatter(seeds, [at - 0.42] * len(seeds), s=9, color="black", alpha=0.45 * alpha, linewidth=0, clip_on=False)
    every = decision.of_all_seeds
    if every.num_seeds != decision.interval.num_seeds and math.isfinite(every.half_width):
        axes.plot([every.low / margin, every.high / margin], [at + 0.25] * 2, color=GREY, linewidth=0.8, alpha=alpha)
    interval = decision.interval
    if math.isfinite(interval.half_width):
        axes.plot([interval.low / margin, interval.high / margin], [at, at], color=colour, linewidth=1.6, alpha=alpha)
    axes.plot(
        [interval.mean / margin],
        [at],
        marker=_MARKERS[row.contrast.measure],
        markersize=4.5,
        color=colour,
        markerfacecolor="white" if decision.verdict == UNDECIDED else colour,
        alpha=alpha,
        zorder=3,
    )


def _write(figure: Figure, axes: Axes, line: Line, layout: Layout) -> None:
    """Write the words of a line, the measure of its row, and its numbers where there is room."""
    from matplotlib.transforms import blended_transform_factory

    where = blended_transform_factory(figure.dpi_scale_trans, axes.transData)
    colour = GREY if line.is_pale else "black"

    def write(left: float, text: str, colour: str, *, alpha: float = 1.0, weight: str = "normal") -> None:
        # The band ends where words cross it.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 1.0}
        look = {"color": colour, "alpha": alpha, "weight": weight}
        axes.text(left, line.at, text, fontdict=look, transform=where, va="center", clip_on=False, bbox=box)

    if line.text:
        write(0.05, line.text, colour, weight=line.weight)
    if line.row is None:
        return
    measure = SHORT_MEASURES[line.row.contrast.measure]
    # The legend has its whole name beside its shape.
    write(layout.measure, measure.removesuffix(" loss"), colour)
    interval, verdict = line.row.decision.interval, line.row.decision.verdict
    write(layout.verdict, verdict, VERDICT_COLOURS[verdict], alpha=_PALE + 0.2 if line.is_pale else 1.0)
    if not layout.is_narrow:
        write(layout.right + 0.08, f"{interval.mean:+.3f} [{interval.low:.3f}, {interval.high:.3f}]", colour)


def _legend(figure: Figure, layout: Layout) -> None:
    """Name the colours of the verdicts; below them the shapes of the measures, the points and the grey line."""
    from matplotlib.lines import Line2D

    colours = [
        Line2D([], [], color=colour, linewidth=1.6, label=verdict) for verdict, colour in VERDICT_COLOURS.items()
    ]
    shapes = [
        Line2D([], [], color="black", marker=_MARKERS[measure], markersize=4, linestyle="none", label=name)
        for measure, name in SHORT_MEASURES.items()
    ]
    shapes.append(Line2D([], [], color="black", marker="o", markersize=2.5, linestyle="none", label="one seed"))
    shapes.append(Line2D([], [], color=GREY, linewidth=0.8, label="all seeds, where more"))
    ncols, num_lines = (2, 3) if layout.is_narrow else (6, 1)
    for handles, lines_above_the_edge in ((colours, num_lines + 0.6), (shapes, 0.0)):
        figure.legend(
            handles=handles,
            loc="lower left",
            ncols=ncols,
            bbox_to_anchor=(0.0, _LINE * lines_above_the_edge / figure.get_figheight()),
            borderpad=0.1,
            handlelength=1.4,
            columnspacing=1.0,
            labelspacing=0.2,
        )
