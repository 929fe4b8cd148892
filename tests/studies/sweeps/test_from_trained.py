"""Cells that start from a trained run: the appended layers, and where the learned transform goes."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mamlcli.common.errors import MamlError
from mamlcli.engine.networks import apply_network
from mamlcli.recipe.changes import changed_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.axes import linear_sweep
from mamlcli.studies.sweeps.from_trained import check_start_width, start_transform, write_start
from mamlcli.studies.sweeps.sweep import check_sweep
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.trained import best_weights
from tests.helpers.models import use_models_dir
from tests.helpers.running import train_run
from tests.helpers.studies import recipe_of, start_of


@pytest.mark.parametrize(("num_layers", "width"), [(0, None), (1, None), (2, 5)])
def test_layers_appended_to_a_run_leave_its_function_unchanged_at_the_start(shallow, num_layers, width):
    run, experiment = start_of(shallow, num_layers, width)
    source = build(shallow.recipe, splits=("test",))
    trained, _ = best_weights(shallow, source)
    longer, _ = best_weights(run, experiment)
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert len(experiment.network.head) == 1 + num_layers
    # Identities and zeros are exact in floating point; the sums gain only zeros.
    expected = apply_network(source.network, trained.model, x)
    assert torch.allclose(apply_network(experiment.network, longer.model, x), expected, rtol=0, atol=1e-15)


def test_a_started_run_trains_on_and_its_manifest_says_where_from(shallow):
    run, experiment = start_of(shallow, 2, seed=4)
    result = train_run(run, experiment, argv=[])
    assert run.manifest["started_from"]["run"] == str(shallow.path)
    assert run.manifest["status"] == "done"
    before = json.loads((shallow.path / "evaluation.json").read_text())["final"]["loss"]["mean"]
    assert result.final.mean("loss") != before


def test_the_learned_transform_moves_up_with_the_last_layer_and_new_layers_start_as_the_identity():
    # Two square layers, two appended: all four weights have one shape, so that only the place tells them apart.
    eye, body, first, last = (torch.eye(2) * factor for factor in (1.0, 2.0, 3.0, 4.0))
    trained = {"body.0.weight/left": body, "head.0.weight/left": first, "head.1.weight/left": last}
    names = ["body.0.weight/left", *(f"head.{index}.weight/left" for index in range(4))]
    found = start_transform(trained, dict.fromkeys(names, eye), last=1, num_layers=2)
    assert [found[name][0, 0].item() for name in names] == [2.0, 3.0, 1.0, 1.0, 4.0]


def test_a_learned_transform_of_another_shape_starts_as_the_identity():
    fresh = {"head.0.weight/in": torch.eye(3), "head.1.weight/in": torch.eye(5)}
    found = start_transform({"head.0.weight/in": 7 * torch.eye(3)}, fresh, last=0, num_layers=1)
    assert all(torch.equal(found[name], value) for name, value in fresh.items())


@pytest.mark.parametrize("num_layers", [0, 2])
def test_a_start_from_a_run_with_a_transform_hands_it_to_the_last_layer(tmp_path, num_layers):
    recipe = recipe_of("logistic", "inner.transform=meta-sgd")
    source = RunDirectory.create(tmp_path / "source", recipe, "logistic")
    train_run(source, build(recipe, splits=splits_of_training(recipe)), argv=[])
    trained, _ = best_weights(source, build(recipe, splits=("test",)))
    longer = changed_recipe(recipe, {"model.linear_layers": num_layers}, "test")
    run = RunDirectory.create(tmp_path / "longer", longer, "logistic")
    experiment = build(longer, splits=splits_of_training(longer))
    write_start(run, experiment, source)
    found, _ = best_weights(run, experiment)
    scales = {name: value for name, value in found.transform.items() if "weight" in name}
    assert torch.equal(scales.pop(f"head.{num_layers}.weight/scale"), trained.transform["head.0.weight/scale"])
    assert all((value == 1).all() for value in scales.values())


def test_a_width_below_the_features_is_refused_as_a_start(shallow):
    recipe = changed_recipe(shallow.recipe, {"model.linear_width": 2}, "test")
    sweep = linear_sweep("logistic", recipe, layers=[1], num_seeds=1, started_from=shallow.path)
    with pytest.raises(MamlError, match=r"model\.linear_width: expected an integer >= 3"):
        check_start_width(sweep, check_sweep(sweep))


@pytest.mark.parametrize("head", ["zero", "shared"])
def test_a_start_from_a_run_keeps_the_start_of_its_output_layer(tmp_path, head):
    recipe = recipe_of("logistic", "model={kind: mlp, depth: 1, width: 4}", f"inner.head={head}")
    source = RunDirectory.create(tmp_path / "source", recipe, "logistic")
    trained = build(recipe, splits=splits_of_training(recipe))
    train_run(source, trained, argv=[])
    longer = changed_recipe(recipe, {"model.linear_layers": 2, "model.linear_width": 6}, "test")
    run = RunDirectory.create(tmp_path / "longer", longer, "logistic")
    experiment = build(longer, splits=splits_of_training(longer))
    write_start(run, experiment, source)
    starts = [e.objective().start(best_weights(r, e)[0].model) for r, e in ((source, trained), (run, experiment))]
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs = [apply_network(e.network, p, x) for e, p in zip((trained, experiment), starts, strict=True)]
    assert torch.allclose(outputs[1], outputs[0], rtol=0, atol=1e-15)
    assert train_run(run, experiment, argv=[]).final.mean("loss") > 0


def test_a_model_of_the_package_is_started_from_by_its_name(shallow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shallow.path, use_models_dir(monkeypatch, tmp_path / "models") / "shallow@1")
    name = Path("shallow@1")
    sweep = linear_sweep("logistic", shallow.recipe, layers=[0], num_seeds=1, started_from=name)
    assert sweep.settings()["started_from"] == "shallow@1"
    run = RunDirectory.create(tmp_path / "run", shallow.recipe, "logistic")
    experiment = build(shallow.recipe, splits=splits_of_training(shallow.recipe))
    write_start(run, experiment, RunDirectory.open(name))
    assert run.manifest["started_from"]["run"] == "shallow@1"
    found, trained = best_weights(run, experiment)[0], best_weights(shallow, experiment)[0]
    assert all(torch.equal(value, trained.model[key]) for key, value in found.model.items())
