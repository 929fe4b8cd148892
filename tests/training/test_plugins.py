"""Runs of networks, tasks and transforms of packages are ordinary runs, and go on by their recipe alone."""

from __future__ import annotations

import json

import pytest
import torch

import mamlcli
from mamlcli.common.errors import MamlError, RecipeError
from tests.helpers.plugins import ONE_FILE, POINTS, forget, install, install_example, one_file_fixture  # noqa: F401

SMALL = {
    "outer.iterations": 2,
    "outer.tasks": 2,
    "validation.every": None,
    "evaluation.tasks": 4,
    "inner.steps": 1,
    "execution.device": "cpu",
}
ALL = ("tasks={source: lines}", "model={kind: net}", "inner.transform=half")


@pytest.fixture(autouse=True)
def fresh():
    yield
    forget()


def edited(monkeypatch, tmp_path, old: str, new: str) -> None:
    assert old in ONE_FILE
    install(monkeypatch, tmp_path / "site", ONE_FILE.replace(old, new), **POINTS)


def test_run_notes_its_packages_goes_on_and_is_loaded_by_its_recipe(one_file):
    run = mamlcli.train("sinusoid", *ALL, SMALL, run_dir=one_file / "run")
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["plugins"]["model"] == {"name": "net", "package": "one_file", "version": "1.5"}
    assert set(manifest["plugins"]) == {"model", "tasks", "inner.transform"}
    longer = mamlcli.train(None, {"outer.iterations": 4}, run_dir=run.path, resume=True)
    whole = mamlcli.train("sinusoid", *ALL, {**SMALL, "outer.iterations": 4}, run_dir=one_file / "whole")
    assert all(torch.equal(longer.params[name], value) for name, value in whole.params.items())
    assert mamlcli.adapt(run.path, torch.randn(5, 1), torch.randn(5)).training is not None


def test_run_of_a_package_that_is_gone_says_which(one_file, monkeypatch):
    run = mamlcli.train("sinusoid", *ALL, SMALL, run_dir=one_file / "run")
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path != str(one_file / "site")])
    forget()
    with pytest.raises(RecipeError, match="pip install one_file"):
        mamlcli.load(run.path)


def test_other_version_of_a_package_is_noted(one_file, monkeypatch):
    run = mamlcli.train("sinusoid", *ALL, SMALL, run_dir=one_file / "run")
    (one_file / "site" / "one_file-1.5.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: one_file\nVersion: 1.6\n"
    )
    forget()
    mamlcli.train(None, {"outer.iterations": 3}, run_dir=run.path, resume=True)
    changes = json.loads((run.path / "manifest.json").read_text())["changes"]
    assert [(one["before"], one["now"]) for one in changes if one["key"] == "plugins.one_file"] == [("1.5", "1.6")]


def test_few_shot_data_of_a_package_has_ways_and_splits(one_file):
    sizes = {"outer.tasks": 1, "tasks": {"source": "blobs", "ways": 2, "queries": 2}, "evaluation.ways": 2}
    words = [f"tasks={json.dumps(sizes.pop('tasks'))}", "reference=null"]
    run = mamlcli.train("sinusoid", *words, {**SMALL, **sizes}, run_dir=one_file / "run")
    assert run.report["final"]["accuracy"]["mean"] > 0


def test_example_package_trains_by_its_own_recipe(monkeypatch, tmp_path):
    install_example(monkeypatch, tmp_path / "site")
    run = mamlcli.train("gated-steps", SMALL, run_dir=tmp_path / "run")
    assert run.recipe.inner.transform.name == "scale"
    assert set(run.transform_params) == {f"{name}/scale" for name in run.params}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("return nn.Sequential", "return 3 or nn.Sequential", "model.kind=net: expected a torch.nn.Module"),
        ("keys.width, num_outputs))", "keys.width, 7))", "model.kind=net: expected outputs"),
        (
            "from torch import nn",
            "import no_such_module",
            "model.kind=net: expected one_file:net of the plug-in",
        ),
        ('code = "one_file:net"', 'code = "one_file:nett"', "one_file:nett of the plug-in to be imported"),
        ('code = "one_file:net"', 'code = "one_file:mamlcli"', "a function at one_file:mamlcli of the plug-in"),
        ("nn.Tanh()", "nn.BatchNorm1d(keys.width, track_running_stats=False)", 'norm = "batch"'),
        ("return x[:, : self.keys.shots], ", "return x[:, :1], ", "tasks.source=lines"),
        ("def sample(", "def draw(", "tasks.source=lines"),
        ("def apply(", "def use(", "inner.transform.name=half"),
        ("gradient / 2 for", "gradient[:1] for", "transform.apply"),
    ],
)
def test_code_that_makes_a_wrong_thing_is_one_sentence(monkeypatch, tmp_path, old, new, words):
    edited(monkeypatch, tmp_path, old, new)
    with pytest.raises(MamlError) as error:
        mamlcli.train("sinusoid", *ALL, SMALL, run_dir=tmp_path / "run")
    assert words in str(error.value)
