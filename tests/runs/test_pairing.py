"""Which runs were scored on the same tasks, and which scores are a run's own."""

from __future__ import annotations

import dataclasses
import re
import shutil

import numpy as np
import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.entry import read_run
from mamlcli.runs.pairing import check_comparable, final_task_scores, task_differences
from tests.helpers.run_folders import query_scores, with_manifest


def test_another_split_makes_tasks_different(trained):
    one = read_run(trained / "one")
    assert task_differences(one, read_run(trained / "two")) == []
    protocol = dataclasses.replace(one.report.protocol, split="train")
    other_split = dataclasses.replace(one, report=dataclasses.replace(one.report, protocol=protocol))
    assert task_differences(one, other_split) == ["evaluation.split ('test' and 'train')"]


def with_digest(run, digest):
    return with_manifest(run, data={"digest": digest})


def test_other_data_makes_tasks_different(trained):
    one = read_run(trained / "one")
    assert task_differences(with_digest(one, "a"), with_digest(one, "b")) == ["data digest ('a' and 'b')"]


def with_recipe(run, *changes):
    return dataclasses.replace(run, recipe=load_recipe("glyphs-5way-1shot", changes)[1])


def test_more_ways_make_tasks_different(trained):
    run = with_digest(read_run(trained / "one"), "a")
    fewer, more = (with_recipe(run, f"tasks.ways={ways}") for ways in (5, 10))
    assert task_differences(fewer, more) == ["tasks.ways (5 and 10)"]


def test_tasks_that_are_scored_alone_must_be_the_same(trained):
    run = with_digest(read_run(trained / "one"), "a")
    as_scored = with_recipe(run, "tasks.queries=15", "tasks.shots=1")
    trained_on_fewer = with_recipe(
        run, "tasks.queries=1", "evaluation.queries=15", "tasks.shots=5", "evaluation.shots=1"
    )
    assert task_differences(as_scored, trained_on_fewer) == []
    other = with_recipe(run, "tasks.queries=15", "evaluation.queries=1")
    assert task_differences(as_scored, other) == ["evaluation.queries (15 and 1)"]
    ways = [with_recipe(run, f"evaluation.ways={ways}") for ways in (3, 5)]
    assert task_differences(*ways) == ["evaluation.ways (3 and 5)"]


@pytest.mark.parametrize(("split", "reasons"), [("test", []), ("train", ["tasks.held_back (0 and 20)"])])
def test_classes_held_back_make_other_tasks_only_where_they_are_of_the_split(trained, split, reasons):
    run = with_digest(read_run(trained / "one"), "a")
    report = dataclasses.replace(run.report, protocol=dataclasses.replace(run.report.protocol, split=split))
    run = dataclasses.replace(run, report=report)
    assert task_differences(with_recipe(run), with_recipe(run, "tasks.held_back=20")) == reasons


def with_statistics(run, norm, statistics):
    changes = {"batch_norm": norm, "batch_norm_statistics": statistics}
    protocol = dataclasses.replace(run.report.protocol, **changes)
    return dataclasses.replace(run, report=dataclasses.replace(run.report, protocol=protocol))


def test_other_norms_and_other_statistics_of_batch_norm_have_the_same_tasks(trained):
    run = read_run(trained / "one")
    joint, support, layer = (
        with_statistics(run, *norm) for norm in (("batch", "joint"), ("batch", "support"), ("layer", None))
    )
    assert task_differences(joint, support) == []
    assert task_differences(joint, layer) == []


def test_augmentation_of_training_makes_the_same_tasks(trained):
    run = with_digest(read_run(trained / "one"), "a")
    recipes = [load_recipe("cifar-fs-5way-5shot", changes)[1] for changes in ([], ["tasks.augment=[flip]"])]
    plain, augmented = (dataclasses.replace(run, recipe=recipe) for recipe in recipes)
    assert task_differences(plain, augmented) == []


def test_the_same_images_in_another_place_make_the_same_tasks(trained):
    run = with_digest(read_run(trained / "one"), "a")
    here, there = (with_recipe(run, f"tasks.path={path}") for path in "xy")
    assert task_differences(here, there) == []


def test_images_of_unknown_digest_in_another_place_may_be_others(trained):
    run = with_digest(read_run(trained / "one"), None)
    here, there = (with_recipe(run, f"tasks.path={path}") for path in "xy")
    assert task_differences(here, there) == ["tasks.path ('x' and 'y')"]


@pytest.mark.parametrize(
    ("other", "key"), [("more-shots", "tasks.shots (6 and 4)"), ("other-tasks", "evaluation.seed (1 and 0)")]
)
def test_runs_on_other_tasks_may_be_compared_unpaired_alone(trained, other, key):
    run, baseline = read_run(trained / other), read_run(trained / "one")
    reasons = task_differences(run, baseline)
    assert reasons == [key]
    with pytest.raises(RunError, match=rf"differ in {re.escape(key)}.*--unpaired"):
        check_comparable(run, baseline, reasons, allow_unpaired=False)
    assert check_comparable(run, baseline, reasons, allow_unpaired=True) is None


def test_classification_and_regression_are_never_compared(trained):
    with pytest.raises(RunError, match="two classifications or two regressions"):
        check_comparable(read_run(trained / "one"), read_run(trained / "line"), [], allow_unpaired=True)


def test_final_scores_are_those_of_the_file_after_the_last_inner_step(trained):
    scores = final_task_scores(read_run(trained / "five"))
    assert scores.shape == (5, 4)
    assert np.array_equal(scores[:, 2:], query_scores(trained / "five"))


@pytest.mark.parametrize("other", ["five", "other-tasks"])  # of another shape, and of the same
def test_scores_of_another_evaluation_are_refused(runs, other):
    shutil.copy(runs / other / "tasks.csv", runs / "one" / "tasks.csv")
    with pytest.raises(RunError, match=r"expected the tasks of evaluation\.json, got another evaluation's"):
        final_task_scores(read_run(runs / "one"))
