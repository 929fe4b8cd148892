"""What the panels of claims draw: scores as they were measured, every seed."""

import math
from dataclasses import replace

import pytest

from mamlcli.common.figures import LAYER_SERIES, SERIES, TRANSFORM_SERIES, new_figure
from mamlcli.studies.claims.contrasts import LOG_ODDS, LOSS, CellValue
from mamlcli.studies.claims.panels import (
    advantages,
    draw_references,
    draw_seeds,
    look_of,
    measures_of,
    shown_scores,
    values_of,
)
from tests.helpers.made_reproduction import made_reproduction


@pytest.fixture(scope="module")
def done():
    return made_reproduction()


def study_of(done, key):
    return next(study for study in done.studies if study.key == key)


def test_log_odds_are_drawn_as_the_accuracy_they_are_of(done):
    study = study_of(done, "glyphs-maml")
    odds, shown = study.scores[LOG_ODDS]["depth 1"], shown_scores(study, LOG_ODDS, "depth 1")
    for seed, score in odds.items():
        assert math.log(shown[seed] / (100.0 - shown[seed])) == pytest.approx(score)
    assert shown_scores(study, LOSS, "depth 1") == study.scores[LOSS]["depth 1"]


def test_advantage_is_the_difference_of_the_pair_at_its_depth(done):
    study = study_of(done, "glyphs-maml")
    found = advantages(study, LOSS, "kfo")
    assert list(found) == [1, 2, 4]
    loss = study.scores[LOSS]
    assert found[2][100] == pytest.approx(loss["depth 2"][100] - loss["depth 2, kfo"][100])


def test_values_are_those_that_the_predictions_of_a_claim_are_about(done):
    study = study_of(done, "glyphs-maml")
    assert [value.key for value in values_of(done.plan, study, "C3")] == [
        "depth 1",
        "depth 1, 2 linear layers",
        "depth 1, 3 linear layers",
    ]
    assert measures_of(study_of(done, "linear-regression")) == [LOSS]


def test_a_value_looks_the_same_in_every_figure():
    assert look_of(CellValue(1)) == look_of(CellValue(4)) == SERIES[0]
    assert look_of(CellValue(4, optimizer="kfo")) == look_of(CellValue(1, optimizer="kfo")) == TRANSFORM_SERIES["kfo"]
    assert look_of(CellValue(1, 2)) == look_of(CellValue(3), is_linear=True) == LAYER_SERIES[2]


def test_floors_and_baselines_look_the_same_whichever_others_there_are(done):
    styles = {}
    for key in ("linear-regression", "logistic"):
        axes, study = new_figure(2.0, 2.0).subplots(), study_of(done, key)
        for order in (1, -1):
            names = list(study.result.references)[::order]
            result = replace(study.result, references={name: study.result.references[name] for name in names})
            draw_references(axes, replace(study, result=result), LOSS)
        for line in axes.lines:
            styles.setdefault(line.get_label(), set()).add((line.get_color(), line.get_linestyle()))
    assert set(styles) == {"posterior mean (floor)", "Bayes predictive (floor)", "MAP"}
    assert all(len(found) == 1 for found in styles.values())


def test_every_seed_is_drawn_beside_the_mean_of_its_value():
    axes = new_figure(2.0, 2.0).subplots()
    draw_seeds(axes, [1.0, 2.0, 3.0], [{100: 1.0, 101: 3.0}, {}, {100: 5.0}], SERIES[0], "s")
    assert axes.lines[0].get_xdata().tolist() == [1.0, 3.0]
    assert axes.lines[0].get_ydata().tolist() == [2.0, 5.0]
    points = [point for found in axes.collections for point in found.get_offsets().tolist()]
    assert [value for _, value in points] == [1.0, 3.0, 5.0]
