"""The result of a run: its scores on all tasks, its curve, its protocol, as its files hold them."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image

from mamlcli.common.errors import RunError
from mamlcli.common.statistics import estimate
from mamlcli.engine.evaluation import Evaluation, Reference
from mamlcli.engine.objective import TRAJECTORY_COLUMNS
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.scoring import evaluation_stream, finished_result, notes_on
from tests.helpers.running import (
    TINY,
    report_of,
    train_tiny,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_without_validation_the_last_weights_are_scored(regression):
    assert report_of(regression)["weights"] == "last, iteration 2"
    assert not (regression / "checkpoints" / "best.safetensors").exists()


def test_curve_is_a_picture(tmp_path, drawn_curves):
    for recipe in ("logistic", "sinusoid"):
        with Image.open(train_tiny(tmp_path / recipe, recipe).curve_path) as picture:
            picture.load()
            assert min(picture.size) > 300


NUMBER = {"mean": float, "ci95_over_tasks": float}


def form(value):
    """Return the keys and types of a JSON value; an interval may be absent, where all tasks score the same."""
    if isinstance(value, dict):
        if value.keys() == NUMBER.keys():
            assert isinstance(value["ci95_over_tasks"], float | None)
            return NUMBER if isinstance(value["mean"], float) else value
        return {key: form(item) for key, item in value.items()}
    return [form(item) for item in value] if isinstance(value, list) else type(value)


def test_evaluation_of_classification_has_its_machine_readable_form(logistic):
    point = {"step": int, "loss": NUMBER, "support_loss": NUMBER, "accuracy": NUMBER, "support_accuracy": NUMBER}
    assert form(report_of(logistic)) == {
        "run": str,
        "recipe": str,
        "weights": str,
        "protocol": {
            "split": str,
            "num_tasks": int,
            "ways": int,
            "shots": int,
            "queries": int,
            "per_class": bool,
            "inner_steps": int,
            "batch_norm": str,
            "seed": int,
        },
        "curve": [point] * 3,
        "final": point,
        "references": {
            "Bayes predictive": {"loss": NUMBER, "accuracy": NUMBER},
            "MAP": {"loss": NUMBER, "accuracy": NUMBER},
            "true weights": {"loss": NUMBER, "accuracy": NUMBER},
        },
        "chance_accuracy": float,
    }


def test_evaluation_of_regression_has_no_accuracy(regression):
    report = report_of(regression)
    assert form(report["curve"]) == [{"step": int, "loss": NUMBER, "support_loss": NUMBER}] * 4
    assert "accuracy" not in (regression / "evaluation.json").read_text()
    assert form(report["references"]) == {"true function": {"loss": NUMBER}}


def test_evaluation_tells_its_protocol(logistic, regression):
    assert report_of(logistic)["protocol"] == {
        "split": "test",
        "num_tasks": 3,
        "ways": 2,
        "shots": 4,
        "queries": 3,
        "per_class": False,
        "inner_steps": 2,
        "batch_norm": "none",
        "seed": 0,
    }
    protocol = report_of(regression)["protocol"]
    assert (protocol["ways"], protocol["inner_steps"]) == (None, 3)


def test_steps_are_counted_from_before_adaptation_and_the_last_is_final(logistic):
    report = report_of(logistic)
    assert [point["step"] for point in report["curve"]] == [0, 1, 2]
    assert report["final"] == report["curve"][-1]


@pytest.mark.parametrize("name", ["logistic", "regression"])
def test_scores_of_each_task_average_to_the_evaluation(name, request):
    run = request.getfixturevalue(name)
    report = report_of(run)
    with (run / "tasks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["task", "inner_step", *TRAJECTORY_COLUMNS]
    assert len(rows) == report["protocol"]["num_tasks"] * len(report["curve"])
    keys = {"query_loss": "loss", "query_accuracy": "accuracy"} | {
        name: name for name in ("support_loss", "support_accuracy")
    }
    for point in report["curve"]:
        for column, key in keys.items():
            values = [float(row[column]) for row in rows if int(row["inner_step"]) == point["step"]]
            if key not in point:
                assert np.isnan(values).all()
                continue
            found = estimate(np.array(values))
            # Nine digits are written of each.
            assert point[key]["mean"] == pytest.approx(found.mean, rel=1e-7)
            ci95 = None if math.isnan(found.ci95) else pytest.approx(found.ci95, rel=1e-6)
            assert point[key]["ci95_over_tasks"] == ci95


def test_finished_run_is_known_and_not_trained_again(logistic, tmp_path):
    result = finished_result(RunDirectory.open(logistic))
    assert result.to_json() == report_of(logistic)
    recipe = load_recipe("logistic", TINY)[1]
    assert finished_result(RunDirectory.create(tmp_path / "new", recipe, "logistic")) is None


@pytest.mark.parametrize("content", ["", "[]", '{"protocol": '])
def test_finished_run_whose_result_is_damaged_is_refused(tmp_path, content):
    run = train_tiny(tmp_path / "run")
    (run.path / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=r"evaluation\.json: expected a readable result"):
        finished_result(run)


def test_evaluation_that_overflows_is_written_as_json(tmp_path):
    run = train_tiny(tmp_path / "run", "linear-regression", "inner.lr=1e4", "inner.steps=1", "evaluation.steps=30")

    def refuse(name):
        raise AssertionError(name)

    report = json.loads((run.path / "evaluation.json").read_text(), parse_constant=refuse)
    assert report["final"]["loss"] == {"mean": None, "ci95_over_tasks": None}
    assert math.isfinite(report["curve"][0]["loss"]["mean"])


def test_notes_tell_doubtful_references_and_intervals():
    scores = np.ones((4, 1, 4))
    doubtful = np.array([1.0, 0.0, 0.0, 0.0])
    references = {"Bayes predictive": Reference(np.ones(4), np.ones(4), doubtful), "MAP": Reference(np.ones(4), None)}
    assert notes_on(Evaluation(scores, references, True, 0.5)) == (
        "Query loss: the same on all 4 tasks, so it has no interval.",
        "Query accuracy: the same on all 4 tasks, so it has no interval.",
        "Bayes predictive: sampling did not converge for 1 of 4 tasks; its loss there is likely too high.",
    )
    several = np.arange(16.0).reshape(4, 1, 4)
    assert notes_on(Evaluation(several, {}, False, None)) == ()


def test_scored_tasks_of_the_training_split_are_none_of_training():
    assert evaluation_stream("train") != "train"
    assert [evaluation_stream(split) for split in ("validation", "test")] == ["validation", "test"]
