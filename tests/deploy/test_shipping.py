"""Models that are put into the package: what goes with them, what does not, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file

from mamlcli.common.errors import RunError
from mamlcli.deploy import shipping
from mamlcli.deploy.noise import NOISE_OUTPUTS, noise_outputs
from mamlcli.deploy.shipping import private_words, ship_run
from mamlcli.runs.entry import read_run
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.pairing import final_task_scores
from mamlcli.training.rescoring import adapt_run
from tests.helpers.models import change_json, files_of, opened, use_models_dir
from tests.helpers.running import train_tiny


@pytest.fixture
def models(tmp_path, monkeypatch):
    return use_models_dir(monkeypatch, tmp_path / "models")


@pytest.mark.parametrize("name", ["one", "kfo", "sinusoid"])
def test_a_model_is_the_run_without_its_training_state(trained, models, name):
    folder = ship_run(trained / name, f"{name}@1")
    saved = load_file(trained / name / "checkpoints" / "last.safetensors")
    shipped = load_file(folder / "checkpoints" / "last.safetensors")
    assert shipped.keys() == {key for key in saved if not key.startswith("optimizer/")}
    assert all(value.equal(saved[key]) for key, value in shipped.items())
    model, run = read_run(folder), read_run(trained / name)
    assert (model.status, model.name, model.report.run) == ("done", f"{name}@1", f"{name}@1")
    assert model.report.final == run.report.final
    # scores.npy is float32, tasks.csv has nine digits.
    assert final_task_scores(model) == pytest.approx(final_task_scores(run), rel=1e-6, nan_ok=True)
    outputs = [noise_outputs(opened(path)) for path in (trained / name, folder)]
    assert np.load(folder / NOISE_OUTPUTS).tolist() == outputs[0].tolist() == outputs[1].tolist()


def test_a_model_scores_as_its_run(trained, models):
    folder = ship_run(trained / "kfo", "kfo@1")
    again, model = adapt_run(RunDirectory(trained / "kfo"))[1], adapt_run(RunDirectory(folder))[1]
    assert (model.curve, model.weights) == (again.curve, again.weights)


def test_the_best_weights_are_those_that_ship(models, tmp_path):
    run = train_tiny(tmp_path / "run", "logistic", "validation.every=1", "validation.tasks=2")
    folder = ship_run(run.path, "logistic@1")
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.safetensors"]
    assert read_run(folder).report.weights.startswith("best by meta-validation")


def test_no_word_of_the_machine_goes_with_a_model(models, tmp_path, with_glyphs):
    run = train_tiny(tmp_path / "run", "sinusoid", "execution.chunk=1")
    change_json(run.path / "manifest.json", argv=["/home/ann/bin/mamlcli"], git={"commit": "abc"}, host="ann-pc")
    data = {"source": "omniglot", "pack": "/home/ann/packs/omniglot.npz", "skipped": [["/home/ann/a.png", "why"]]}
    change_json(run.path / "manifest.json", data=data)
    folder = ship_run(run.path, "sinusoid@1")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["data"] == {"source": "omniglot", "pack": "omniglot.npz"}
    assert not {"argv", "git", "host"} & set(manifest)
    assert "platform" not in manifest["versions"]
    recipe = read_run(folder).recipe
    assert (recipe.execution.device, recipe.execution.threads, recipe.execution.chunk) == ("auto", None, None)
    for content in files_of(folder).values():
        assert b"ann" not in content.replace(b"channels", b"")


def test_a_place_that_is_left_is_refused_and_nothing_stays(models, tmp_path):
    run = train_tiny(tmp_path / "run", "sinusoid")
    change_json(run.path / "manifest.json", data={"source": "sinusoid", "preprocessing": {"name": "/home/ann/x"}})
    with pytest.raises(RunError, match=r"expected no word of one machine, got '/home/'"):
        ship_run(run.path, "sinusoid@1")
    assert not list(models.iterdir())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"/home/ann/x"', ["/home/"]),
        ("in ~/packs", ["~/"]),
        ("(C:\\data)", ["C:\\"]),
        ("by ann@example.org on ann@laptop", ["ann@example.org", "ann@laptop"]),
        ("glyphs-5way-1shot@1. Data of a user called data.\n@article{x}", []),
        ("see https://example.org/a/b, ALPHABET/CHARACTER, a/b, 1 / 2, [n, *input_shape], arXiv:1805.08136", []),
    ],
)
def test_places_and_people_are_told_from_names_and_relative_paths(text, found):
    assert private_words(text) == found


def test_a_published_name_keeps_its_weights(trained, models):
    ship_run(trained / "one", "one@1")
    before = files_of(models)
    with pytest.raises(RunError, match=r"one@1: expected a name that is not taken.* Take one@2\."):
        ship_run(trained / "two", "one@1")
    assert files_of(models) == before


@pytest.mark.parametrize("name", ["one", "one@", "one@0", "one@x", "One@1", "../one@1", "a/b@1", "@1"])
def test_a_name_has_one_form(trained, models, name):
    with pytest.raises(RunError, match="expected NAME@VERSION of small letters, digits and hyphens"):
        ship_run(trained / "one", name)
    assert not list(models.iterdir())


def test_what_others_cannot_use_is_refused(trained, models, runs):
    with pytest.raises(RunError, match=r"expected a run in float32, as models ship, got execution\.dtype=float64"):
        ship_run(trained / "line", "line@1")
    with pytest.raises(RunError, match=r"expected a run on data that others can get, got tasks\.source=folder"):
        ship_run(runs["colour"].path, "colour@1")


def test_a_result_of_other_weights_is_refused(trained, models, tmp_path):
    run = shutil.copytree(trained / "one", tmp_path / "run")
    change_json(run / "evaluation.json", weights="last, iteration 1")
    with pytest.raises(RunError, match="expected the result of its last, iteration 2, got of last, iteration 1"):
        ship_run(run, "one@1")


def test_a_run_that_is_not_finished_is_refused(trained, models, tmp_path):
    run = shutil.copytree(trained / "one", tmp_path / "run")
    change_json(run / "manifest.json", status="interrupted")
    with pytest.raises(RunError, match="expected a finished run"):
        ship_run(run, "one@1")


def test_models_together_have_a_bound(trained, models, monkeypatch):
    ship_run(trained / "one", "one@1")
    monkeypatch.setattr(shipping, "MAX_BYTES", sum(map(len, files_of(models).values())) + 10)
    with pytest.raises(RunError, match="bytes in all models"):
        ship_run(trained / "one", "one@2")
    assert [path.name for path in models.iterdir()] == ["one@1"]
