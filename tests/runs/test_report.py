"""The result of a run as a type: made from an evaluation, written as JSON, read back."""

from __future__ import annotations

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from mamlcli.common.statistics import Score, estimate
from mamlcli.engine.evaluation import Evaluation, Reference
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.report import Protocol, RunReport, Scores
from mamlcli.training.scoring import evaluation_report

PROTOCOL = {
    "split": "test",
    "num_tasks": 2,
    "ways": None,
    "shots": 10,
    "queries": 10,
    "per_class": False,
    "inner_steps": 1,
    "batch_norm": "none",
    "seed": 0,
}


def score(mean):
    return {"mean": mean, "ci95_over_tasks": 0.5}


def content(**changes):
    """Return the content of an evaluation.json."""
    curve = [{"step": step, "loss": score(2.0 - step), "support_loss": score(1.0)} for step in (0, 1)]
    return {
        "run": "runs/a-1",
        "recipe": "a",
        "weights": "last, iteration 3",
        "protocol": PROTOCOL,
        "curve": curve,
        "final": curve[-1],
        "references": {"floor": {"loss": score(0.1)}},
        **changes,
    }


def report_of(scores, *, is_classification, references=None):
    """Return the report of a run with these scores, [num_tasks, num_inner_steps + 1, 4]."""
    recipe = load_recipe("logistic" if is_classification else "linear-regression")[1]
    evaluation = Evaluation(scores, references or {}, is_classification, 0.5 if is_classification else None)
    run = SimpleNamespace(path="runs/a-1", name="a")
    objective = SimpleNamespace(inner=SimpleNamespace(transform=None), network=SimpleNamespace(unmapped=None))
    experiment = SimpleNamespace(recipe=recipe, objective=lambda: objective)
    return evaluation_report(run, experiment, evaluation, "last", split="test", num_steps=scores.shape[1] - 1)


def test_content_is_written_as_it_was_read():
    for value in (content(), content(chance_accuracy=0.5)):
        assert json.dumps(RunReport.from_json(value).to_json()) == json.dumps(value)


def test_what_is_not_used_may_be_there_or_missing():
    value = content(of_a_later_version=1)
    del value["run"]
    assert RunReport.from_json(value).final.loss == Score(1.0, 0.5)


@pytest.mark.parametrize("key", ["recipe", "weights", "protocol", "curve", "final", "references"])
def test_key_that_is_missing_is_named(key):
    value = content()
    del value[key]
    with pytest.raises(ValueError, match=f"^{key}.*: expected .*, got None"):
        RunReport.from_json(value)


def test_protocol_of_an_earlier_version_does_not_say_whose_statistics_its_batch_norm_took():
    assert Protocol.from_json({**PROTOCOL, "batch_norm": "batch"}).batch_norm_statistics == "joint"
    assert Protocol.from_json(PROTOCOL).batch_norm_statistics is None
    assert Protocol.from_json(PROTOCOL).to_json() == PROTOCOL


@pytest.mark.parametrize("key", [key for key in PROTOCOL if key != "ways"])
def test_key_that_is_missing_in_the_protocol_is_named(key):
    protocol = {name: value for name, value in PROTOCOL.items() if name != key}
    with pytest.raises(ValueError, match=rf"protocol\.{key}: expected .*, got None"):
        RunReport.from_json(content(protocol=protocol))


WRONG = {
    "curve: expected a list, got 3": {"curve": 3},
    "curve[0]: expected an object of keys and values, got 'a'": {"curve": ["a"]},
    "final: expected an object of keys and values, got None": {"final": None},
    "final.step: expected a whole number from 0 of at most 1,000,000, got -1": {
        "final": {"step": -1, "loss": score(1.0), "support_loss": score(1.0)}
    },
    "final.loss.mean: expected a finite number, got 'low'": {
        "final": {"step": 1, "loss": {"mean": "low"}, "support_loss": score(1.0)}
    },
    "final.loss.mean: expected a finite number, got nan": {
        "final": {"step": 1, "loss": {"mean": math.nan}, "support_loss": score(1.0)}
    },
    "references: expected an object of keys and values, got []": {"references": []},
    "references.x: expected an object of keys and values, got True": {"references": {"x": True}},
    "protocol: expected an object of keys and values, got []": {"protocol": []},
    "protocol.seed: expected a whole number from": {"protocol": {**PROTOCOL, "seed": 10**400}},
    "protocol.per_class: expected true or false, got 1": {"protocol": {**PROTOCOL, "per_class": 1}},
    "chance_accuracy: expected a fraction from 0 to 1, got 2": {"chance_accuracy": 2},
    "notes[0]: expected a text, got {}": {"notes": [{}]},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_a_key_cannot_mean_is_refused_with_the_key_and_the_value(message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        RunReport.from_json(content(**WRONG[message]))


def test_final_scores_are_those_of_the_last_point():
    report = RunReport.from_json(content())
    assert report.final == report.curve[-1].scores
    assert report.final.mean("loss") == 1.0
    assert report.means("loss") == [2.0, 1.0]
    assert not report.has_accuracy
    assert report.references["floor"].mean("loss") == 0.1


def test_scores_that_do_not_exist_are_nan_with_no_interval():
    scores = Scores(loss=Score(None), accuracy=Score(0.5, 0.1))
    assert math.isnan(scores.mean("loss"))
    assert math.isnan(scores.mean("support_loss"))
    assert [scores.half_width(metric) for metric in ("loss", "support_loss", "accuracy")] == [0.0, 0.0, 0.1]


def test_intervals_are_those_of_statistics():
    scores = np.random.default_rng(0).random((7, 4, 4))
    floor = Reference(None, np.linspace(0.0, 1.0, 7))
    value = report_of(scores, is_classification=True, references={"floor": floor}).to_json()
    assert value["chance_accuracy"] == 0.5
    assert [point["step"] for point in value["curve"]] == [0, 1, 2, 3]
    assert value["final"] == value["curve"][-1]
    for step, point in enumerate(value["curve"]):
        for column, metric in enumerate(("support_loss", "support_accuracy", "loss", "accuracy")):
            expected = estimate(scores[:, step, column])
            assert point[metric] == {"mean": expected.mean, "ci95_over_tasks": expected.ci95}
    expected = estimate(floor.accuracy)
    assert value["references"] == {"floor": {"accuracy": {"mean": expected.mean, "ci95_over_tasks": expected.ci95}}}


def test_numbers_that_do_not_exist_are_none_or_absent():
    report = report_of(np.array([[[1.0, 0.0, math.inf, 0.0], [1.0, 0.0, 2.0, 0.0]]]), is_classification=False)
    value = report.to_json()
    json.dumps(value, allow_nan=False)
    assert value["curve"][0]["loss"] == {"mean": None, "ci95_over_tasks": None}
    assert value["final"] == {
        "step": 1,
        "loss": {"mean": 2.0, "ci95_over_tasks": None},  # one task has no interval
        "support_loss": {"mean": 1.0, "ci95_over_tasks": None},
    }
    assert "chance_accuracy" not in value
    assert math.isnan(report.means("loss")[0])
