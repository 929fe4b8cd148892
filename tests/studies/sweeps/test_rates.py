"""The choice of an inner learning rate."""

import pytest

from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.cell_result import RateCandidate
from mamlcli.studies.sweeps.rates import choose_inner_lr, rate_candidate, validation_metric, validation_score
from tests.helpers.studies import fake_run, tiny_sweep


def test_inner_lr_is_chosen_by_the_best_mean_meta_validation_and_nothing_else(tmp_path):
    sweep = tiny_sweep(depths=(1,), inner_lrs=(0.1, 0.2, 0.4))
    # No evaluation.json is there to be read. Best of each run: 0.1: 0.5 and 0.5; 0.2: 0.6 and 0.8; 0.4: 0.9, 0.4.
    scores = {0.1: ([0.5, 0.2], [0.5]), 0.2: ([0.1, 0.6], [0.8]), 0.4: ([0.9], [0.4, 0.3])}
    for rate, runs in scores.items():
        for seed, values in enumerate(runs):
            fake_run(tmp_path / "cells" / f"depth-1-lr{rate:g}-seed-{seed}", values)
    candidates = [
        rate_candidate(
            rate,
            [RunDirectory(tmp_path / "cells" / f"depth-1-lr{rate:g}-seed-{seed}") for seed in (0, 1)],
            metric="accuracy",
            failed=(),
            diverged=(),
        )
        for rate in sweep.inner_lrs
    ]
    assert [candidate.validation_score for candidate in candidates] == pytest.approx([0.5, 0.7, 0.65])
    assert choose_inner_lr(candidates) == 0.2


def test_regression_is_chosen_by_the_lowest_loss(tmp_path):
    fake_run(tmp_path / "run", [0.8, 0.3, 0.5], key="loss")
    assert validation_metric(tiny_sweep().recipe) == "loss"
    assert validation_score(RunDirectory(tmp_path / "run"), "loss") == -0.3


def test_classification_is_chosen_by_accuracy_unless_the_recipe_says_loss(tmp_path):
    recipes = [load_recipe("logistic", words)[1] for words in ([], ["validation.metric=loss"])]
    assert [validation_metric(recipe) for recipe in recipes] == ["accuracy", "loss"]
    fake_run(tmp_path / "run", [0.4, 0.7])
    run = RunDirectory(tmp_path / "run")
    assert [validation_score(run, metric) for metric in ("accuracy", "loss")] == [0.7, -1.0]


def test_of_equal_rates_the_smaller_is_chosen_and_a_diverged_one_never():
    candidates = [
        RateCandidate(0.4, "done", 0.7),
        RateCandidate(0.1, "done", 0.7),
        RateCandidate(0.9, "diverged", None),
    ]
    assert choose_inner_lr(candidates) == 0.1
    assert choose_inner_lr(candidates[2:]) is None
