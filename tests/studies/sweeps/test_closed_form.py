"""The closed forms of linear regression beside a study of depth."""

from dataclasses import replace

import pytest

from mamlcli.studies.sweeps.axes import depth_sweep
from mamlcli.studies.sweeps.closed_form import add_closed_form
from mamlcli.studies.sweeps.sweep import check_sweep
from tests.helpers.studies import depth_result, recipe_of


def shallow_result():
    return replace(depth_result(), cells=tuple(replace(cell, inner_lr=0.2) for cell in depth_result().cells[:1]))


def test_closed_form_of_the_shallow_model_matches_the_scalar_formula():
    # One input of variance 1, no noise, task weights of variance 1: 1/2 (1 - alpha)^(2K), alpha 0.2, K 3.
    recipe = recipe_of(
        "linear-regression",
        "tasks.dimension=1",
        "tasks.noise=0",
        "tasks.shots=2000",
        "inner.steps=3",
        "evaluation.tasks=400",
        "inner.lr=0.2",
    )
    sweep = depth_sweep("linear-regression", recipe, depths=[1], num_seeds=1)
    found = add_closed_form(shallow_result(), sweep, check_sweep(sweep)).closed_form
    expected = 0.5 * 0.8**6
    assert found.shallow_infinite_support == pytest.approx(expected)
    # Measured on 400 tasks; 2.5 half-widths are about 5 standard errors.
    measured = found.shallow_from_zero
    assert abs(measured.mean - expected) < 2.5 * measured.ci95
    assert found.preconditioned_one_step < found.shallow_one_step


def test_no_closed_form_where_the_shallow_model_is_not_one_layer_that_adapts():
    recipe = recipe_of("linear-regression", "model.linear_layers=1")
    sweep = depth_sweep("linear-regression", recipe, depths=[1], num_seeds=1)
    assert add_closed_form(shallow_result(), sweep, experiment=None) == shallow_result()
