"""A trained run scored again: the same where nothing else is asked, and what is asked for."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import MamlError, RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.rescoring import adapt_run
from tests.helpers.running import TINY, TINY_IMAGES, noise_pack, report_of, train_tiny

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


@pytest.fixture(scope="module")
def held_back(tmp_path_factory):
    """A run on images of noise with a protocol of its own for scores, and classes that are held back."""
    folder = tmp_path_factory.mktemp("rescoring")
    path = noise_pack(folder / "p.npz", [f"class{index}" for index in range(30)])
    keys = ("tasks.ways=3", "tasks.shots=1", "tasks.held_back=6", f"tasks.path={path}", "validation.every=1")
    protocol = ("evaluation.ways=2", "evaluation.shots=2", "evaluation.queries=3", "evaluation.batch_norm=support")
    return train_tiny(folder / "run", "folder", *TINY_IMAGES, *keys, "validation.tasks=2", *protocol)


def test_result_says_the_whole_protocol_that_its_tasks_were_scored_by(held_back):
    expected = {
        "split": "test",
        "num_tasks": 2,
        "ways": 2,
        "shots": 2,
        "queries": 3,
        "per_class": True,
        "inner_steps": 1,
        "batch_norm": "batch",
        "seed": 0,
        "batch_norm_statistics": "support",
    }
    assert report_of(held_back.path)["protocol"] == expected
    assert report_of(held_back.path)["chance_accuracy"] == 0.5
    _, report = adapt_run(RunDirectory.open(held_back.path))
    assert report.to_json() == report_of(held_back.path)


@pytest.mark.parametrize("split", ["train", "validation", "held-back"])
def test_every_split_is_scored_by_the_protocol_of_the_evaluation(held_back, split):
    _, report = adapt_run(RunDirectory.open(held_back.path), split=split)
    protocol = report.protocol
    assert (protocol.split, protocol.ways, protocol.shots, protocol.queries) == (split, 2, 2, 3)


def test_classes_held_back_are_noted_in_the_manifest(held_back):
    names = RunDirectory.open(held_back.path).manifest.data["held_back"]
    assert len(set(names)) == 6


def test_split_that_a_run_has_not_is_refused(logistic):
    with pytest.raises(MamlError, match=r"evaluation\.split: expected train, validation or test .*got 'held-back'"):
        adapt_run(RunDirectory.open(logistic), split="held-back")


def test_other_keys_of_evaluation_are_scored_and_told_as_a_run_with_these_keys_is(held_back):
    run = RunDirectory.open(held_back.path)
    changes = ("evaluation.ways=3", "evaluation.shots=1", "evaluation.queries=4", "evaluation.batch_norm=joint")
    _, report = adapt_run(run, changes=(*changes, "evaluation.seed=7"))
    protocol = report.protocol
    assert (protocol.ways, protocol.shots, protocol.queries, protocol.seed) == (3, 1, 4, 7)
    assert protocol.batch_norm_statistics == "joint"
    assert report.chance_accuracy == pytest.approx(1 / 3)
    _, as_before = adapt_run(run, changes=("evaluation.ways=2",))
    assert as_before.to_json() == report_of(held_back.path)


def test_more_ways_than_a_learned_head_has_are_refused(held_back):
    with pytest.raises(MamlError, match=r"evaluation\.ways: expected at most tasks\.ways=3, .*learned head.*got 4"):
        adapt_run(RunDirectory.open(held_back.path), changes=("evaluation.ways=4",))


@pytest.mark.parametrize(("split", "is_told"), [("held-back", True), ("validation", False), ("test", False)])
def test_weights_that_were_chosen_on_the_classes_that_are_scored_are_told(held_back, split, is_told):
    _, report = adapt_run(RunDirectory.open(held_back.path), split=split)
    assert report.weights.endswith(", chosen on other tasks of these classes") is is_told
