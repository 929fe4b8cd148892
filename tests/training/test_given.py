"""Runs of networks, tasks and transforms that are given from Python are ordinary runs, where these are at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import mamlcli
from mamlcli.cli.app import app
from mamlcli.common.errors import DataError, MamlError, RunError
from mamlcli.runs.catalogue import find_runs
from mamlcli.tasks.few_shot_data import FewShotData
from tests.helpers.foreign_networks import Recurrent

SMALL = {
    "outer.iterations": 4,
    "outer.tasks": 2,
    "validation.every": 2,
    "validation.tasks": 4,
    "evaluation.tasks": 6,
    "inner.steps": 2,
    "tasks.ways": 3,
}


class Lines:
    """Regression of lines through the origin."""

    def sample(self, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        drawn = torch.stack([torch.randn(9, 1, generator=generator) for generator in generators])
        x = drawn[:, :8]
        y = drawn[:, 8:] * x
        return x[:, :4], y[:, :4], x[:, 4:], y[:, 4:]


class Factor:
    """A learned factor for all gradients."""

    def init(self, params: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
        return {"*/factor": torch.ones(())}

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> dict[str, Tensor]:
        return {name: xi["*/factor"] * value for name, value in gradients.items()}


class Stop(Exception):
    """Ends a training in the middle."""


def network(ways: int = 3, inputs: int = 6) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 8), nn.LayerNorm(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, ways)).eval()


def data(seed: int = 0) -> FewShotData:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(15).repeat_interleave(8)
    x = torch.randn(15, 6, generator=generator)[labels] + 0.3 * torch.randn(120, 6, generator=generator)
    return mamlcli.few_shot_tasks(x, labels)


def trained(path: Path, **given: Any) -> mamlcli.Run:
    return mamlcli.train("glyphs-5way-1shot", SMALL, run_dir=path, **given)


def test_run_of_given_parts_is_an_ordinary_run(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", network=network(), tasks=data())
    assert run.report is not None
    assert run.report["protocol"]["ways"] == 3
    assert set(run.report["references"]) == {"nearest neighbour on inputs"}
    assert (run.recipe.model.kind, run.recipe.tasks.source) == ("python", "python-classes")
    [entry] = find_runs(tmp_path)
    assert entry.report is not None
    given = json.loads((tmp_path / "run/manifest.json").read_text())["given"]
    assert given["network"]["class"] == "torch.nn.modules.container.Sequential"
    assert given["network"]["parameters"][0] == ["0.weight", [8, 6], "float32"]
    assert any("mapped by vmap" in note for note in run.report["notes"])


def test_training_changes_the_weights_from_those_that_were_given_and_not_the_module(tmp_path: Path) -> None:
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    run = trained(tmp_path / "run", network=module, tasks=data())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert run.params.keys() == before.keys()
    assert not torch.equal(run.params["0.weight"], before["0.weight"])
    assert isinstance(run.module, nn.Sequential)
    assert torch.equal(run.module.state_dict()["0.weight"], run.params["0.weight"])


def test_interrupted_run_of_given_parts_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def stop(record: object) -> None:
        if getattr(record, "iteration", 0) == 3:
            raise Stop

    whole = trained(tmp_path / "whole", network=network(), tasks=data(), transform=Factor())
    with pytest.raises(Stop):
        trained(tmp_path / "cut", network=network(), tasks=data(), transform=Factor(), on_record=stop)
    other_start = network()
    nn.init.ones_(other_start[0].weight)
    resumed = mamlcli.train(
        run_dir=tmp_path / "cut", resume=True, network=other_start, tasks=data(), transform=Factor()
    )
    assert all(torch.equal(value, resumed.params[name]) for name, value in whole.params.items())
    assert torch.equal(whole.transform_params["*/factor"], resumed.transform_params["*/factor"])
    assert whole.report is not None
    assert resumed.report is not None
    assert whole.report["final"] == resumed.report["final"]


def test_run_is_loaded_and_used_where_its_network_is_given_again(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", network=network(), tasks=data())
    loaded = mamlcli.load(tmp_path / "run", network=network())
    x, y = torch.randn(6, 6), torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.equal(mamlcli.adapt(run, x, y)(x), mamlcli.adapt(loaded, x, y)(x))
    two = mamlcli.predict(loaded, (x[:4], y[:4]), x[4:])
    assert two.probabilities.shape == (2, 2)
    with pytest.raises(MamlError, match="outputs"):
        mamlcli.predict(loaded, (x, torch.arange(6)), x)


def test_run_is_scored_again_where_its_tasks_are_given_again(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", network=network(), tasks=data())
    assert mamlcli.score(run)["final"] == run.report["final"]
    loaded = mamlcli.load(run.path, network=network())
    assert mamlcli.score(loaded, tasks=data())["final"] == run.report["final"]
    again = mamlcli.score(loaded, "evaluation.steps=2", {"evaluation.tasks": 5}, tasks=data())
    assert (len(again["curve"]), again["protocol"]["num_tasks"]) == (3, 5)
    with pytest.raises(MamlError, match=r"tasks that were given from Python, got none"):
        mamlcli.score(loaded)
    with pytest.raises(MamlError, match=r"expected keys of evaluation, or tasks\.path, got 'inner\.lr'"):
        mamlcli.score(run, "inner.lr=1")


def test_run_is_refused_with_one_sentence_where_the_network_is_not_at_hand(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", network=network(), tasks=data())
    words = r"network that was given from Python, got none.*mamlcli.load\(run, network=...\)"
    with pytest.raises(MamlError, match=words):
        mamlcli.load(run.path)
    with pytest.raises(RunError, match=r"parameters of the same names and shapes, got .*with other parameters"):
        mamlcli.load(run.path, network=nn.Sequential(nn.Linear(6, 3)))
    for command in (
        ["adapt", str(run.path)],
        ["runs", "export", str(run.path), "--weights", str(tmp_path / "weights")],
    ):
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, MamlError), result.output
        assert "given from Python" in str(result.exception)
    assert CliRunner().invoke(app, ["runs", "show", str(run.path)]).exit_code == 0


def test_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    def stop(record: object) -> None:
        if getattr(record, "iteration", 0) == 3:
            raise Stop

    with pytest.raises(Stop):
        trained(tmp_path / "cut", network=network(), tasks=data(), on_record=stop)
    with pytest.raises(RunError, match="the data it was trained on"):
        mamlcli.train(run_dir=tmp_path / "cut", resume=True, network=network(), tasks=data(seed=1))
    with pytest.raises(DataError, match=r"mamlcli.few_shot_tasks\(...\), as the recipe says"):
        mamlcli.train(run_dir=tmp_path / "cut", resume=True, network=network(), tasks=Lines())


def test_own_tasks_go_with_a_network_of_a_recipe(tmp_path: Path) -> None:
    keys = {key: value for key, value in SMALL.items() if not key.startswith("tasks")}
    run = mamlcli.train("sinusoid", keys, run_dir=tmp_path / "run", tasks=Lines())
    assert (run.input_shape, run.num_outputs) == ((1,), 1)
    assert (run.recipe.tasks.shots, run.recipe.tasks.queries) == (4, 4)
    assert run.report is not None
    assert run.report["protocol"]["ways"] is None


def test_splits_may_have_an_object_each(tmp_path: Path) -> None:
    keys = {key: value for key, value in SMALL.items() if not key.startswith("tasks")}
    splits = {"train": Lines(), "validation": Lines(), "test": Lines()}
    assert mamlcli.train("sinusoid", keys, run_dir=tmp_path / "run", tasks=splits).report is not None
    with pytest.raises(MamlError, match="a mapping of train, validation and test"):
        mamlcli.train("sinusoid", keys, run_dir=tmp_path / "other", tasks={"train": Lines()})


def test_own_network_learns_shipped_images_and_classifies_files(tmp_path: Path) -> None:
    class Convolutions(nn.Sequential):
        def __init__(self) -> None:
            norm = nn.BatchNorm2d(8, track_running_stats=False)
            super().__init__(nn.Conv2d(1, 8, 5, stride=3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(512, 3))

    run = trained(tmp_path / "run", network=Convolutions)
    assert run.recipe.model.norm == "batch"
    assert run.report is not None
    assert "linear probe on features" in run.report["references"]
    assert run.report["protocol"]["batch_norm"] == "batch"
    support = (torch.rand(3, 1, 28, 28), torch.arange(3))
    together = mamlcli.predict(run, support, torch.rand(2, 1, 28, 28)).probabilities
    assert together.shape == (2, 3)


def test_function_that_makes_a_network_draws_its_weights_by_the_seed_of_the_run(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 3))

    keys = {**SMALL, "outer.lr": 1e-12, "validation.every": None}
    given = {"network": make, "tasks": data()}
    runs = [
        mamlcli.train("glyphs-5way-1shot", keys, {"seed": seed}, run_dir=tmp_path / str(index), **given)
        for index, seed in enumerate((1, 1, 2))
    ]
    first, again, other = (run.params["0.weight"] for run in runs)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_recurrent_network_is_computed_task_by_task_and_says_so(tmp_path: Path) -> None:
    images = mamlcli.few_shot_tasks(torch.rand(60, 3, 16, 16), torch.arange(15).repeat_interleave(4))
    run = mamlcli.train(
        "glyphs-5way-1shot", SMALL, "tasks.queries=2", run_dir=tmp_path / "run", network=Recurrent(3), tasks=images
    )
    assert run.report is not None
    assert any("one by one" in note and "vmap does not take it" in note for note in run.report["notes"])
    prediction = mamlcli.predict(run, (torch.rand(3, 3, 16, 16), torch.arange(3)), torch.rand(2, 3, 16, 16))
    assert prediction.probabilities.shape == (2, 3)


@pytest.mark.parametrize(
    ("keys", "given", "words"),
    [
        ({}, {"network": nn.Linear(6, 5), "tasks": data()}, r"outputs \[4, 3\] for 4 inputs, got \[4, 5\]"),
        ({"tasks.shots": 7}, {"network": nn.Linear(6, 3), "tasks": data()}, r"3 classes with 12 examples each"),
        ({}, {"tasks": object()}, r"object with sample\(generators\)"),
        ({}, {"tasks": data()}, r"model.kind: expected mlp or linear for inputs that are no images"),
        ({}, {"network": nn.Linear(6, 3), "tasks": data(), "transform": object()}, r"init\(params, seed\)"),
        ({"inner.joint_features": True, "inner.algorithm": "anil"}, {"network": nn.Linear(6, 3)}, "model.kind=python"),
        ({"model.depth": 2}, {"network": nn.Linear(6, 3)}, "model.depth"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_before_anything_is_made(
    tmp_path: Path, keys: dict[str, object], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(MamlError, match=words):
        mamlcli.train("glyphs-5way-1shot", {**SMALL, **keys}, run_dir=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()
