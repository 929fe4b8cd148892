"""Linear layers multiplied into one: the same outputs after adaptation, and the exported model."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mamlcli.common.errors import RunError
from mamlcli.engine.linear_stack import COLLAPSE_TOLERANCE
from mamlcli.engine.networks import apply_network, linear
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps import collapsed
from mamlcli.studies.sweeps.collapsed import CollapseCheck, collapse_check, collapse_record, export_collapsed
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.trained import best_weights
from tests.helpers.layers import BATCHED, LOOP, as_float32, conv_case, objective_and_meta
from tests.helpers.numerics import DOUBLE, regression_episode
from tests.helpers.running import train_run
from tests.helpers.studies import recipe_of, start_of


def test_adapted_stacks_collapse_to_the_same_outputs_and_the_shallow_size(shallow):
    run, experiment = start_of(shallow, 2, width=5, seed=6)
    record = collapse_record(run, experiment)
    assert record.largest_relative_difference <= 1e-10
    # 3 inputs and 2 outputs: 8 collapsed; as trained 3*5+5 + 5*5+5 + 5*2+2.
    assert (record.num_parameters, record.num_parameters_collapsed) == (62, 8)


def test_tasks_on_which_a_stack_diverges_are_counted_and_not_compared(shallow, monkeypatch):
    run, experiment = start_of(shallow, 1, seed=15)
    whole = collapse_record(run, experiment)
    relative = np.full(whole.num_tasks, 1e-12)
    relative[:2] = np.nan
    monkeypatch.setattr(collapsed, "collapse_check", lambda *_: CollapseCheck(relative, relative))
    record = collapse_record(run, experiment)
    assert (record.num_tasks, record.num_not_finite) == (whole.num_tasks - 2, 2)
    assert record.largest_relative_difference == 1e-12
    monkeypatch.setattr(collapsed, "collapse_check", lambda *_: CollapseCheck(relative * np.nan, relative * np.nan))
    assert not collapse_record(run, experiment).is_compared


def test_the_exported_collapsed_weights_compute_what_the_run_computes(shallow, tmp_path):
    run, experiment = start_of(shallow, 2, seed=7)
    export_collapsed(run.path, tmp_path / "small.safetensors")
    with safe_open(str(tmp_path / "small.safetensors"), framework="pt") as archive:
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        metadata = json.loads(archive.metadata()["mamlcli"])
    assert set(tensors) == {"head.0.weight", "head.0.bias"}
    assert metadata["recipe"]["model"]["linear_layers"] == 0
    meta, _ = best_weights(run, experiment)
    x = torch.eye(3, dtype=torch.float64)
    expected = apply_network(experiment.network, meta.model, x)
    assert torch.allclose(x @ tensors["head.0.weight"].T + tensors["head.0.bias"], expected, atol=1e-12)


@pytest.mark.parametrize("head", ["zero", "shared"])
def test_an_output_layer_that_is_not_learned_in_full_is_collapsed_as_tasks_start_with_it(tmp_path, head):
    recipe = recipe_of("logistic", "model.linear_layers=2", f"inner.head={head}")
    run = RunDirectory.create(tmp_path / "run", recipe, "logistic")
    experiment = build(recipe, splits=splits_of_training(recipe))
    train_run(run, experiment, argv=[])
    assert export_collapsed(run.path, tmp_path / "small.safetensors").agrees
    with safe_open(str(tmp_path / "small.safetensors"), framework="pt") as archive:
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        metadata = json.loads(archive.metadata()["mamlcli"])
    assert metadata["recipe"]["inner"]["head"] == "learned"
    start = experiment.objective().start(best_weights(run, experiment)[0].model)
    x = torch.eye(3, dtype=torch.float64)
    expected = apply_network(experiment.network, start, x)
    assert torch.allclose(x @ tensors["head.0.weight"].T + tensors["head.0.bias"], expected, atol=1e-12)


def test_an_export_over_an_existing_file_is_refused_with_a_name_that_is_free(shallow, tmp_path):
    out = tmp_path / "small.safetensors"
    for name in ("small", "small-2"):
        (tmp_path / f"{name}.safetensors").write_text("mine")
    with pytest.raises(RunError, match=r"Name another: mamlcli add-linear \S+ --collapse \S+/small-3\.safetensors"):
        export_collapsed(shallow.path, out)
    assert out.read_text() == "mine"


def test_a_run_of_one_layer_has_nothing_to_collapse(shallow, tmp_path):
    with pytest.raises(RunError, match="a stack of linear layers"):
        export_collapsed(shallow.path, tmp_path / "small.safetensors")


@pytest.mark.parametrize("num_extra", [0, 1, 2, 3])
def test_adapted_stacks_collapse_exactly_in_float64(num_extra):
    objective, meta, episodes = conv_case(linear_layers=num_extra, depth=1)
    found = collapse_check(objective, meta, episodes, BATCHED)
    assert found.relative.shape == (3,)
    assert found.relative.max() < COLLAPSE_TOLERANCE[DOUBLE]
    assert found.absolute.max() < COLLAPSE_TOLERANCE[DOUBLE]


@pytest.mark.parametrize("num_extra", [1, 3])
def test_adapted_stacks_collapse_within_rounding_in_float32(num_extra):
    objective, meta, episodes = conv_case(linear_layers=num_extra, depth=1)
    found = collapse_check(objective, *as_float32(meta, episodes), BATCHED)
    assert found.relative.max() < COLLAPSE_TOLERANCE[torch.float32]


def test_wide_and_narrow_stacks_collapse_after_adaptation_too():
    for width in (1, 3, 12):
        objective, meta = objective_and_meta(linear((6,), 1, depth=3, width=width), lr=0.05)
        found = collapse_check(objective, meta, [regression_episode(6, num_tasks=3)], LOOP)
        assert found.relative.max() < COLLAPSE_TOLERANCE[DOUBLE]
