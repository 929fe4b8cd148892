"""A trained run scored again: the same where nothing else is asked, and what is asked for."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.rescoring import adapt_run
from tests.helpers.running import TINY, report_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_adapting_again_gives_the_same_evaluation(logistic):
    _, report = adapt_run(RunDirectory.open(logistic))
    assert report.to_json() == report_of(logistic)


def test_adapting_longer_begins_with_the_same_curve(logistic):
    before = report_of(logistic)["curve"]
    _, report = adapt_run(RunDirectory.open(logistic), num_steps=5)
    assert len(report.to_json()["curve"]) == 6
    assert report.to_json()["curve"][:3] == before
    assert (report.to_json()["protocol"]["inner_steps"], report.to_json()["protocol"]["split"]) == (5, "test")


def test_adapting_on_another_split_scores_other_tasks(logistic):
    _, report = adapt_run(RunDirectory.open(logistic), split="train", num_tasks=3)
    assert report.to_json()["protocol"]["split"] == "train"
    assert report.to_json()["curve"][0] != report_of(logistic)["curve"][0]


def test_run_without_a_checkpoint_cannot_adapt(tmp_path):
    recipe = load_recipe("logistic", TINY)[1]
    run = RunDirectory.create(tmp_path / "run", recipe, "logistic")
    with pytest.raises(RunError, match=r"expected a checkpoint, got none.*--resume"):
        adapt_run(run)
