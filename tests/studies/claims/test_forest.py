"""The forest plot: every prediction has its row, in units of its margin."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text

from mamlcli.common.figures import print_style
from mamlcli.studies.claims.decisions import UNDECIDED
from mamlcli.studies.claims.forest import (
    NARROW,
    SHORT_MEASURES,
    VERDICT_COLOURS,
    WIDE,
    forest_figure,
    lines_of,
    ordered,
)
from tests.helpers.made_reproduction import made_reproduction


@pytest.fixture(scope="module")
def claims():
    return made_reproduction().claims


def drawn_means(figure):
    return [float(line.get_xdata()[0]) for line in figure.axes[0].lines if line.get_marker() in tuple("os^D")]


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_every_prediction_has_a_mean_in_units_of_its_margin(claims, layout):
    figure = forest_figure(claims, "title", layout)
    rows = [row for claim in claims for group in ordered(claim.rows) for row in group]
    expected = [row.decision.interval.mean / row.contrast.margin for row in rows]
    assert len(rows) == sum(len(claim.rows) for claim in claims) > 30
    assert drawn_means(figure) == pytest.approx(expected)


def test_every_seed_is_a_point(claims):
    points = [offsets for found in forest_figure(claims, "t").axes[0].collections for offsets in found.get_offsets()]
    assert len(points) == sum(len(row.decision.prediction.differences) for claim in claims for row in claim.rows)


def test_rows_that_decide_come_first_and_measures_of_a_prediction_stand_together(claims):
    for claim in claims:
        groups = ordered(claim.rows)
        decides = [row.contrast.decides for group in groups for row in group]
        assert decides == sorted(decides, reverse=True)
        assert all(len({(row.study_words, row.contrast.words) for row in group}) == 1 for group in groups)


def test_claim_stands_with_its_verdict_above_its_rows(claims):
    texts = [line.text for line in lines_of(claims, WIDE) if line.weight == "bold"]
    assert [text[: len(claim.id)] for claim in claims for text in texts if text.startswith(claim.id)] == [
        claim.id for claim in claims
    ]
    assert any(text.startswith(f"C2 {claims[1].verdict}: ") for text in texts)


def test_the_wide_plot_fits_a_page_and_no_words_reach_into_the_next_column(claims):
    figure = forest_figure(claims, "t", WIDE)
    assert figure.get_figwidth() <= 7.0
    renderer = figure.canvas.get_renderer()
    pixel = 1.0 / figure.dpi
    measures = {name.removesuffix(" loss") for name in SHORT_MEASURES.values()} | {"loss"}
    for text in figure.axes[0].texts:
        box, words = text.get_window_extent(renderer), text.get_text()
        left, right = box.x0 * pixel, box.x1 * pixel
        assert right <= WIDE.width, words
        if text.get_weight() == "normal" and left < 1.0 and "exact checks" not in words:
            assert right <= WIDE.measure, words
        elif words in measures:
            assert right <= WIDE.left, words


def test_no_two_lines_stand_on_each_other(claims):
    for layout in (WIDE, NARROW):
        lines = list(lines_of(claims, layout))
        for is_row in (True, False):
            at = [line.at for line in lines if (line.row is not None) is is_row and (is_row or line.text)]
            assert min(np.diff(sorted(at))) >= 1.0 - 1e-9


def test_undecided_rows_are_open_and_verdicts_have_their_colours(claims):
    figure = forest_figure(claims, "t")
    rows = [row for claim in claims for group in ordered(claim.rows) for row in group]
    marks = [line for line in figure.axes[0].lines if line.get_marker() in tuple("os^D")]
    for row, mark in zip(rows, marks, strict=True):
        assert mark.get_color() == VERDICT_COLOURS[row.decision.verdict]
        assert (mark.get_markerfacecolor() == "white") == (row.decision.verdict == UNDECIDED)


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_every_row_says_its_verdict_in_words(claims, layout):
    texts = [text.get_text() for text in forest_figure(claims, "t", layout).axes[0].texts]
    expected = [row.decision.verdict for claim in claims for group in ordered(claim.rows) for row in group]
    assert [text for text in texts if text in VERDICT_COLOURS] == expected


def test_the_axis_is_labelled_at_both_ends(claims):
    ticks = forest_figure(claims, "t").axes[0].xaxis.get_major_ticks()
    assert all(tick.label1.get_visible() and tick.label2.get_visible() for tick in ticks)


def test_colours_and_shapes_have_legends_of_their_own(claims):
    colours, shapes = (
        [text.get_text() for text in legend.get_texts()] for legend in forest_figure(claims, "t").legends
    )
    assert colours == list(VERDICT_COLOURS)
    assert shapes == ["loss", "log-odds", "capped loss", "distance", "one seed", "all seeds, where more"]


def test_seeds_stand_above_their_interval(claims):
    axes = forest_figure(claims, "t").axes[0]
    at = {round(float(y) % 1, 6) for points in axes.collections for _, y in points.get_offsets()}
    means = {round((float(line.get_ydata()[0]) - 0.42) % 1, 6) for line in axes.lines if line.get_marker() in "os^D"}
    assert at == means


def test_axis_says_its_units_and_the_band_is_the_margin(claims):
    axes = forest_figure(claims, "t").axes[0]
    assert "mean difference / margin" in axes.get_xlabel()
    (band,) = axes.patches
    assert (band.get_x(), band.get_width()) == (-1.0, 2.0)


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_text_is_whole_and_legible(claims, layout):
    figure = forest_figure(claims, "t", layout)
    with print_style():
        figure.canvas.draw()
    whole = figure.bbox.padded(2.0)
    for text in (text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()):
        assert text.get_fontsize() >= 8
        box = text.get_window_extent()
        assert whole.x0 <= box.x0, text
        assert box.x1 <= whole.x1, text


def test_claim_without_rows_names_what_is_missing(claims):
    bare = replace(claims[4], rows=(), missing=("no family has the cells",))
    assert any("not looked at: no family has the cells" in line.text for line in lines_of([bare], WIDE))
    assert forest_figure([bare], "t").axes
