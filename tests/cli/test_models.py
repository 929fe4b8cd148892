"""`mamlcli models`, and names of shipped models wherever a run is expected, as a user would type them."""

from __future__ import annotations

import json

import pytest

from mamlcli.deploy.shipping import ship_run
from mamlcli.runs.models import model_folder
from tests.helpers.models import GLYPHS, files_of, named_copies, use_models_dir
from tests.helpers.running import train_tiny

pytestmark = pytest.mark.usefixtures("with_glyphs")


@pytest.fixture(autouse=True)
def unchanged():
    """Require of every test that it leaves the package as it was."""
    folder = model_folder(GLYPHS)
    before = files_of(folder)
    yield
    assert files_of(folder) == before


def test_ls_is_a_list_of_objects_with_names(cli):
    rows = json.loads(cli("models", "ls", "--json").out)
    assert GLYPHS in [row["name"] for row in rows]
    shown = cli("models", "ls").out
    assert all(row["name"] in shown for row in rows)


def test_show_tells_result_training_and_limits(cli):
    shown = cli("models", "show", GLYPHS)
    assert shown.code == 0, shown.err
    for words in ("93.4 ± 0.6", "nearest neighbour on pixels", "Limits", f"mamlcli adapt {GLYPHS} --support DIR"):
        assert words in shown.out
    assert json.loads(cli("models", "show", GLYPHS, "--json").out)["name"] == GLYPHS


def test_an_unknown_name_is_told_with_the_nearest(cli):
    for words in (("models", "show"), ("adapt",), ("layers",), ("runs", "show"), ("runs", "compare"), ("add-linear",)):
        ended = cli(*words, "glyphs-5way-1shot@7")
        assert ended.code == 1
        [error] = ended.errors
        assert error.startswith("glyphs-5way-1shot@7: expected a")
        assert error.endswith(f"Did you mean '{GLYPHS}'? Run: mamlcli models ls")


def test_letters_are_classified_by_a_model(cli):
    assert cli("data", "export", "glyphs", "--classes", 5, "--images", 4, "--shots", 2, "--out", "letters").code == 0
    ended = cli("adapt", GLYPHS, "--support", "letters/support", "--query", "letters/query", "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["run"] == GLYPHS
    # Chance is 2 of 10; the model is right on 93 % of such images.
    assert report["accuracy"]["num_right"] >= 6


def test_a_model_is_scored_again_and_the_result_goes_elsewhere(cli, tmp_path):
    report = json.loads(cli("adapt", GLYPHS, "--tasks", 4, "--steps", 1, "--out", "again", "--json").out)
    assert report["run"] == GLYPHS
    assert len(report["curve"]) == 2
    assert json.loads((tmp_path / "again" / "evaluation.json").read_text()) == report


def test_results_are_not_written_into_the_package(cli):
    ended = cli("adapt", GLYPHS, "--tasks", 4, "--steps", 1, "--out", model_folder(GLYPHS))
    assert ended.code == 1
    assert "expected a run that can be written to" in ended.errors[0]


def test_pictures_of_layers_go_below_runs(cli, tmp_path, monkeypatch):
    run = train_tiny(tmp_path / "run", "logistic")
    models = use_models_dir(monkeypatch, tmp_path / "models")
    before = files_of(ship_run(run.path, "logistic@1"))
    assert cli("layers", "logistic@1", "--tasks", 2).code == 0
    assert (tmp_path / "runs" / "logistic@1-layers" / "layers.png").is_file()
    assert files_of(models / "logistic@1") == before
    assert cli("adapt", "logistic@1", "--tasks", 2).code == 0  # the name still means the model


def test_a_model_is_shown_exported_and_compared_as_a_run(cli, tmp_path):
    assert json.loads(cli("runs", "show", GLYPHS, "--json").out)["run"] == GLYPHS
    assert cli("runs", "export", GLYPHS, "--weights", "out").code == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    keys = ("outer.iterations=2", "outer.tasks=2", "evaluation.tasks=5", "evaluation.steps=1", "validation.every=null")
    assert cli("train", "glyphs-5way-1shot", *keys).code == 0
    compared = json.loads(cli("runs", "compare", GLYPHS, "glyphs-5way-1shot-1", "--json").out)
    assert compared["baseline"] == GLYPHS
    of_accuracy = next(row for row in compared["comparisons"] if row["metric"] == "accuracy")
    assert (of_accuracy["is_paired"], of_accuracy["num_pairs"]) == (True, 5)
    assert of_accuracy["difference"]["mean"] < -0.2  # two meta-iterations do not teach much


def test_linear_layers_are_added_to_a_model_of_its_own_recipe(cli, tmp_path):
    ended = cli("add-linear", GLYPHS, "--layers", "0", "--dir", "study", "model.width=8")
    assert ended.errors == [
        f"{GLYPHS}: expected keys that leave the trained weights as they are, got model.width. Start from a recipe "
        "instead of a run."
    ]
    assert not (tmp_path / "study").exists()


def test_training_does_not_go_on_from_a_model(cli):
    ended = cli("train", "--resume", "--run-dir", GLYPHS)
    assert ended.code == 1
    assert ended.errors == [
        f"{GLYPHS}: expected a run that can be written to, got a trained model that ships with mamlcli. It is for "
        "reading, and holds the learned weights alone: no training can go on from there. Run: mamlcli train "
        "glyphs-5way-1shot"
    ]


def test_a_run_of_that_name_in_the_working_directory_wins(cli, tmp_path):
    keys = ("outer.iterations=1", "evaluation.tasks=2", "validation.every=null")
    assert cli("train", "logistic", *keys, "--run-dir", GLYPHS).code == 0
    assert "logistic: adaptation" in cli("adapt", GLYPHS, "--tasks", 2).out
    assert json.loads(cli("runs", "show", GLYPHS, "--json").out)["recipe"] == "logistic"


def test_without_its_data_a_model_says_how_to_get_it(cli, tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    named_copies(folder, "letters@1")
    use_models_dir(monkeypatch, folder)
    recipe = folder / "letters@1" / "recipe.yaml"
    text = recipe.read_text().replace("source: glyphs", "source: omniglot").replace("split: scripts", "split: vinyals")
    recipe.write_text(text)
    ended = cli("adapt", "letters@1", "--split", "test")
    assert ended.code == 1
    assert "Run: mamlcli data fetch omniglot, or with a copy" in ended.errors[0]
