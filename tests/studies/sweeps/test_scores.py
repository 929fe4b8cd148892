"""Numbers of a study and values of its axis, and their JSON."""

import math

import pytest

from mamlcli.common.statistics import Score
from mamlcli.runs import report
from mamlcli.studies.sweeps.scores import GridValue, StudyScores, value_from_json, value_to_json

OF_A_RUN = report.Scores(loss=Score(0.5, 0.1), support_loss=Score(None), accuracy=Score(0.8, 0.02))


def test_scores_of_a_run_are_over_tasks_in_the_order_that_is_asked_for():
    scores = StudyScores.of_run(OF_A_RUN, ("accuracy", "support_accuracy", "loss"))
    assert list(scores.values.items()) == [("accuracy", Score(0.8, 0.02)), ("loss", Score(0.5, 0.1))]
    assert scores.over == "tasks"


def test_scores_of_a_run_are_those_of_its_json():
    assert StudyScores.of_run(OF_A_RUN) == StudyScores.from_json({"step": 3, **OF_A_RUN.to_json()})


@pytest.mark.parametrize("over", ["seeds", "tasks", None])
def test_json_says_what_the_intervals_are_over(over):
    scores = StudyScores({"loss": Score(0.5, None if over is None else 0.1)}, over)
    assert set(scores.to_json()["loss"]) == {"mean"} | ({f"ci95_over_{over}"} if over else set())
    assert StudyScores.from_json(scores.to_json()) == scores


def test_numbers_that_do_not_exist_are_not_a_number_with_no_width():
    scores = StudyScores({"loss": Score(None, None)}, "seeds")
    assert "loss" in scores
    assert "accuracy" not in scores
    assert math.isnan(scores.mean("loss"))
    assert math.isnan(scores.mean("accuracy"))
    assert scores.half_width("loss") == scores.half_width("accuracy") == 0.0


@pytest.mark.parametrize(
    "value",
    [3, "kfo", GridValue(2, "kfo"), GridValue(1, "none", 0), GridValue(1, "none", 2), GridValue(2, "kfo", 0, 22)],
)
def test_axis_values_are_read_as_they_were_written(value):
    assert value_from_json(value_to_json(value)) == value


def test_what_a_study_does_not_vary_is_not_in_its_json():
    assert value_to_json(GridValue(2, "kfo")) == {"depth": 2, "optimizer": "kfo"}
    assert value_to_json(GridValue(2, "kfo", width=8)) == {"depth": 2, "width": 8, "optimizer": "kfo"}
