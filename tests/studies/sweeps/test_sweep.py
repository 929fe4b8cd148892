"""What a study consists of: its cells, their names and recipes, and what is refused before anything runs."""

import json
from dataclasses import replace

import pytest
import torch

from mamlcli.common.errors import MamlError, RecipeError
from mamlcli.recipe.files import load_recipe
from mamlcli.studies.sweeps.sweep import AxisValue, cells_of, check_sweep, least_tasks
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.training.experiment import build
from mamlcli.training.scoring import SELECTION_STREAM
from tests.helpers.studies import tiny_sweep


def test_cells_go_seed_by_seed_so_that_an_early_stop_leaves_whole_seeds():
    cells = cells_of(tiny_sweep(overrides=["seed=4"]))
    assert [cell.name for cell in cells] == ["depth-1-seed-4", "depth-2-seed-4", "depth-1-seed-5", "depth-2-seed-5"]
    assert [(cell.recipe.model.depth, cell.recipe.seed) for cell in cells] == [(1, 4), (2, 4), (1, 5), (2, 5)]


def test_every_inner_learning_rate_is_a_cell_of_its_own():
    [low, high] = cells_of(tiny_sweep(num_seeds=1, depths=(3,), inner_lrs=(0.1, 2.0)))
    assert [cell.name for cell in (low, high)] == ["depth-3-lr0.1-seed-0", "depth-3-lr2-seed-0"]
    assert [cell.recipe.inner.lr for cell in (low, high)] == [0.1, 2.0]
    assert high.label == "depth 3, inner lr 2, seed 0"


def test_settings_tell_studies_apart_and_are_json():
    settings = tiny_sweep().settings()
    assert json.loads(json.dumps(settings)) == settings
    assert (settings["values"], settings["seeds"]) == ([1, 2], [0, 1])
    assert tiny_sweep(depths=(1, 3)).settings() != settings


def test_all_values_that_the_recipe_cannot_have_are_named_at_once():
    with pytest.raises(RecipeError) as caught:
        cells_of(tiny_sweep(depths=(0, 1, -2)))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--depths 0", "--depths -2"]


def test_values_that_the_model_cannot_have_are_refused_before_anything_is_trained():
    _, recipe = load_recipe("logistic", ["model.linear_width=1"])
    values = tuple(AxisValue(n, f"{n} layers", {"model.linear_layers": n}, f"--layers {n}") for n in (0, 1, 2))
    sweep = replace(tiny_sweep(), recipe=recipe, values=values)
    with pytest.raises(MamlError, match=r"--layers 1: model\.linear_width.*>= 2") as caught:
        check_sweep(sweep)
    assert len(caught.value.problems) == 2


def test_choosing_rates_needs_meta_validation():
    with pytest.raises(MamlError, match=r"--inner-lrs.*validation\.every=null"):
        check_sweep(tiny_sweep(inner_lrs=(0.1, 0.2), overrides=["validation.every=null"]))


def drawn(cell, stream="test"):
    experiment = build(cell.recipe, splits=(cell.recipe.evaluation.split,))
    seed, distribution = cell.recipe.evaluation.seed, experiment.distributions["test"]
    return sample_tasks(distribution, seed=seed, split=stream, iteration=0, indices=range(3)).query_y


def test_values_of_a_seed_have_the_same_tasks_and_another_seed_has_others():
    [shallow, deep, other, _] = cells_of(tiny_sweep())
    for stream in ("test", SELECTION_STREAM):
        assert torch.equal(drawn(shallow, stream), drawn(deep, stream))
        assert not torch.equal(drawn(shallow, stream), drawn(other, stream))


def test_under_the_old_rule_all_seeds_have_common_tasks():
    cells = cells_of(replace(tiny_sweep(overrides=["evaluation.seed=7"]), has_common_tasks=True, least_tasks=100))
    assert {cell.recipe.evaluation.seed for cell in cells} == {7}
    assert {cell.recipe.evaluation.tasks for cell in cells} == {12}


def test_a_study_scores_enough_tasks_unless_it_is_told_how_many():
    sweep = tiny_sweep()
    assert least_tasks(sweep.recipe, ["outer.iterations=8"]) == 2000
    assert least_tasks(load_recipe("glyphs-5way-1shot")[1], []) == 1000
    assert least_tasks(sweep.recipe, ["evaluation.tasks=12"]) == 0
    assert {cell.recipe.evaluation.tasks for cell in cells_of(replace(sweep, least_tasks=50))} == {50}
    assert {cell.recipe.evaluation.tasks for cell in cells_of(replace(sweep, least_tasks=5))} == {12}


def test_a_value_can_fix_its_inner_learning_rate():
    values = tuple(replace(v, changes={**v.changes, "inner.lr": 0.25 * v.value}) for v in tiny_sweep().values)
    cells = cells_of(replace(tiny_sweep(num_seeds=1), values=values))
    assert [(cell.inner_lr, cell.recipe.inner.lr) for cell in cells] == [(0.25, 0.25), (0.5, 0.5)]
    assert [cell.name for cell in cells] == ["depth-1-seed-0", "depth-2-seed-0"]
