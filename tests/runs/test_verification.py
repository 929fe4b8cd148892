"""Runs of a recipe against the number that it should reproduce."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mamlcli.common.errors import RecipeError, RunError
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.reference_schema import Reference
from mamlcli.runs.entry import read_run
from mamlcli.runs.verification import METRICS, reference_of, verify_runs
from tests.helpers.run_folders import query_scores
from tests.helpers.running import train_tiny

ACCURACY = Reference(metric="accuracy", value=60.0, margin=5.0, source="a paper")
ERROR = Reference(metric="squared-error", value=1.0, margin=0.1, steps=1)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Runs of one recipe that differ in the seed."""
    base = tmp_path_factory.mktemp("seeds")
    return [
        read_run(train_tiny(base / f"seed-{n}", "logistic", f"seed={n}", "evaluation.tasks=40").path) for n in (0, 1)
    ]


def with_reference(run, reference=ACCURACY):
    return run.recipe.model_copy(update={"reference": reference})


def expected(run, **changes):
    return dataclasses.replace(run.report.protocol, **changes)


def verified(runs, *, recipe=None, reference=ACCURACY, **protocol):
    recipe = recipe or with_reference(runs[0], reference)
    return verify_runs("logistic", recipe, expected(runs[0], **protocol), runs)


def test_accuracies_are_compared_in_per_cent(seeds):
    done = verified(seeds)
    scores = np.stack([100 * query_scores(run.path)[:, 1] for run in seeds])
    assert done.result.mean == pytest.approx(scores.mean())
    assert done.result.gain == pytest.approx(scores.mean() - 60)
    assert [run.value for run in done.runs] == pytest.approx(scores.mean(axis=1))
    assert [run.seed for run in done.runs] == [0, 1]


def test_errors_are_compared_as_twice_the_loss_at_the_steps_of_the_reference(runs):
    run = read_run(runs / "line")
    done = verified([run], reference=ERROR, inner_steps=1)
    after_one_step = np.genfromtxt(run.path / "tasks.csv", delimiter=",", names=True)
    losses = after_one_step["query_loss"][after_one_step["inner_step"] == 1]
    assert done.result.mean == pytest.approx(2 * losses.mean())
    assert done.result.gain == pytest.approx(1.0 - 2 * losses.mean())  # less is better
    assert done.protocol.inner_steps == 1


def test_json_says_margin_tasks_seeds_level_and_over_what_the_interval_is(seeds):
    for runs, over in ((seeds, "seeds and tasks"), (seeds[:1], "tasks, one seed")):
        report = verified(runs).to_json()
        assert report["interval_over"] == over
        assert (report["num_seeds"], report["num_tasks"]) == (len(runs), 40)
        assert (report["level"], report["unit"]) == (0.05, METRICS["accuracy"].unit)
        assert report["reference"] == {**ACCURACY.model_dump()}
        assert report["protocol"]["num_tasks"] == 40
        assert set(report) >= {"verdict", "gain", "interval90", "p_equivalent", "p_better", "runs"}


@pytest.mark.parametrize(("value", "is_reached"), [(0.0, True), (100.0, False)])
def test_better_is_reached_and_worse_is_not(seeds, value, is_reached):
    done = verified(seeds[:1], reference=ACCURACY.model_copy(update={"value": value, "margin": 0.1}))
    assert (done.result.verdict, done.is_reached) == ("better" if is_reached else "worse", is_reached)


def test_runs_of_different_numbers_of_tasks_are_compared_on_the_first_ones(seeds, tmp_path):
    path = train_tiny(tmp_path / "fewer", "logistic", "seed=2", "evaluation.tasks=3").path
    done = verified([*seeds, read_run(path)], num_tasks=3)
    assert done.protocol.num_tasks == 3
    assert done.runs[0].value == pytest.approx(100 * query_scores(seeds[0].path)[:3, 1].mean())


def test_recipe_without_a_reference_is_told_what_to_add(seeds):
    with pytest.raises(RecipeError, match=r"got none\. Add to the recipe: reference: \{metric: accuracy, value"):
        reference_of("mine", seeds[0].recipe)
    with pytest.raises(RecipeError, match="expected the number that the recipe should reproduce"):
        verified(seeds, recipe=seeds[0].recipe)


def test_run_of_another_recipe_is_refused_with_the_keys_that_differ(seeds):
    recipe = changed_recipe(seeds[0].recipe, {"model.depth": 2, "inner.steps": 3}, "here")
    recipe = recipe.model_copy(update={"reference": ACCURACY})
    with pytest.raises(RunError, match="expected a run of logistic, got another") as caught:
        verified(seeds, recipe=recipe)
    assert "model.depth (2 in the recipe, 1 in the run)" in caught.value.got
    assert "inner.steps (3 in the recipe, 5 in the run)" in caught.value.got
    assert "seed" not in caught.value.got


def test_keys_that_change_nothing_may_differ(seeds):
    changes = {"execution.threads": 2, "outer.checkpoint_every": 7, "logging": "tensorboard", "seed": 9}
    recipe = changed_recipe(seeds[0].recipe, changes, "here").model_copy(update={"reference": ACCURACY})
    assert verified(seeds, recipe=recipe).runs


@pytest.mark.parametrize("changes", [{"split": "train"}, {"seed": 3}, {"num_tasks": 41}, {"inner_steps": 6}])
def test_run_that_was_scored_by_another_protocol_is_refused(seeds, changes):
    with pytest.raises(RunError, match="scored as the recipe says") as caught:
        verified(seeds, **changes)
    [(key, value)] = changes.items()
    assert f"{key} ({value!r} in the recipe, " in caught.value.got
    assert f"--out {seeds[0].where}" in caught.value.next_step


def test_run_with_more_tasks_and_steps_than_the_recipe_asks_for_is_taken(seeds):
    done = verified(seeds, num_tasks=2, inner_steps=1)
    assert (done.protocol.num_tasks, done.protocol.inner_steps) == (40, 1)


def test_same_seed_twice_is_refused(seeds):
    with pytest.raises(RunError, match="expected runs of different seeds, got seed 0 again"):
        verified([seeds[0], seeds[0]])


def test_run_that_is_not_finished_is_refused(seeds):
    with pytest.raises(RunError, match="expected a finished run, got one that is interrupted"):
        verified([dataclasses.replace(seeds[0], status="interrupted")])


def test_scores_that_overflowed_are_refused(overflowed):
    run = read_run(overflowed[1])
    with pytest.raises(RunError, match="expected finite scores of all tasks, got 1 that overflowed"):
        verified([run], reference=Reference(metric="squared-error", value=1.0, margin=0.1))
