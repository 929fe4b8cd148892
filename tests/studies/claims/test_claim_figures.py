"""The figures of claims: which there are, and that they can be read."""

from dataclasses import replace

import pytest
from matplotlib.text import Text

from mamlcli.common.figures import TWO_COLUMNS, print_style
from mamlcli.studies.claims.claim_figures import CAPTIONS, claim_figures
from mamlcli.studies.claims.contrasts import LOSS
from tests.helpers.made_reproduction import made_reproduction

DONE = made_reproduction()
IDS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7")


@pytest.fixture(scope="module")
def figures():
    return claim_figures(DONE)


def test_every_claim_has_a_figure_and_a_caption(figures):
    assert tuple(figures) == tuple(CAPTIONS) == IDS


def test_claim_without_scores_has_none():
    bare = [replace(study, scores={}) for study in DONE.studies]
    assert claim_figures(replace(DONE, studies=tuple(bare))) == {}


@pytest.mark.parametrize("claim", IDS)
def test_figure_is_whole_legible_and_labelled(figures, claim):
    figure = figures[claim]
    assert figure.get_figwidth() == TWO_COLUMNS
    with print_style():
        figure.canvas.draw()
    whole = figure.bbox.padded(2.0)
    for text in figure.findobj(Text):
        assert text.get_fontsize() >= 8
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel()
        box = axes.get_tightbbox()
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1


def test_c2_draws_every_seed_of_every_depth(figures):
    axes = figures["C2"].axes[0]
    drawn = sorted(float(y) for points in axes.collections for _, y in points.get_offsets())
    scores = next(study for study in DONE.studies if study.key == "glyphs-maml").scores[LOSS]
    values = ("depth 1", "depth 2", "depth 4", "depth 4, width 4")
    assert drawn == pytest.approx(sorted(score for value in values for score in scores[value].values()))


def test_c3_has_the_stacks_and_their_collapsed_selves(figures):
    names = {text.get_text() for text in figures["C3"].legends[0].get_texts()}
    collapsed = "collapsed into one layer before adaptation, at its own best inner rate"
    assert names == {"layers adapt as they are", collapsed}


def test_c3_curves_name_their_layers_and_no_colour_means_two_things(figures):
    *_, curves = figures["C3"].axes
    lines = {line.get_label(): line.get_color() for line in curves.lines}
    assert list(lines) == ["no layers", "2 layers", "3 layers"]
    others = {line.get_color() for line in figures["C3"].axes[0].lines} - {lines["no layers"]}
    assert not others & set(lines.values())


def test_c1_values_differ_in_marker_and_c7_has_the_same(figures):
    for claim, index in (("C1", 0), ("C1", 1), ("C7", 0)):
        marks = [line.get_marker() for line in figures[claim].axes[index].lines if line.get_marker() != "None"]
        assert len(marks) == len(set(marks)) == 4
    first, seventh = (
        {line.get_marker(): line.get_color() for line in figures[claim].axes[0].lines} for claim in ("C1", "C7")
    )
    assert {mark: seventh[mark] for mark in seventh if mark != "None"} == {
        mark: first[mark] for mark in first if mark != "None"
    }
