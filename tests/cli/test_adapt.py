"""`mamlcli adapt`, run as a user would."""

from __future__ import annotations

import json
import re

import pytest

from mamlcli.runs.folder import RunDirectory
from mamlcli.tasks.images.class_splits import published_classes
from tests.helpers.running import TINY_IMAGES, noise_pack, train_tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two inner steps."""
    return train_tiny(tmp_path_factory.mktemp("runs") / "logistic-1", "logistic", "inner.steps=2").path


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_adapt_shows_the_evaluation_of_the_run(cli, run):
    ended = cli("adapt", run)
    assert ended.code == 0, ended.err
    assert "logistic: adaptation on 3 test tasks" in ended.out
    assert "Query accuracy" in ended.out
    assert json.loads(cli("adapt", run, "--json").out) == json.loads((run / "evaluation.json").read_text())


def test_adapt_changes_nothing_of_the_run(cli, run):
    before = files_of(run)
    assert cli("adapt", run, "--steps", 3, "--tasks", 4).code == 0
    assert files_of(run) == before


def test_more_steps_than_in_training_continue_the_curve(cli, run):
    report = json.loads(cli("adapt", run, "--steps", 6, "--json").out)
    assert [point["step"] for point in report["curve"]] == list(range(7))
    assert report["curve"][:3] == json.loads((run / "evaluation.json").read_text())["curve"]


def test_number_of_tasks_is_as_asked(cli, run):
    assert json.loads(cli("adapt", run, "--tasks", 7, "--json").out)["protocol"]["num_tasks"] == 7


def test_training_tasks_can_be_scored(cli, run):
    report = json.loads(cli("adapt", run, "--split", "train", "--json").out)
    assert report["protocol"]["split"] == "train"
    assert report["final"] != json.loads((run / "evaluation.json").read_text())["final"]


def test_out_keeps_result_scores_and_picture(cli, run, tmp_path):
    ended = cli("adapt", run, "--steps", 3, "--out", "new/longer", "--json")
    assert ended.code == 0, ended.err
    found = tmp_path / "new" / "longer"
    assert sorted(path.name for path in found.iterdir()) == ["curve.png", "curve.svg", "evaluation.json", "tasks.csv"]
    assert json.loads((found / "evaluation.json").read_text()) == json.loads(ended.out)
    assert len((found / "tasks.csv").read_text().splitlines()) == 1 + 3 * 4


@pytest.fixture
def refuses(cli):
    def refused(*words):
        ended = cli("adapt", *words)
        assert (ended.code, ended.out) == (1, ""), ended.err
        assert len(ended.err.splitlines()) == len(ended.errors) == 1, ended.err
        return ended.errors[0]

    return refused


def test_folder_that_is_no_run_is_refused(refuses, tmp_path):
    assert "got no such folder" in refuses("nothing")
    assert "without recipe.yaml and manifest.json" in refuses(".")
    (tmp_path / "file").write_text("mine")
    assert "expected a run directory" in refuses("file")


def test_unknown_split_is_refused(refuses, run):
    assert "expected 'train', 'validation', 'test' or 'held-back', got 'tests'" in refuses(run, "--split", "tests")


def test_place_that_cannot_be_written_is_refused(refuses, run, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert refuses(run, "--out", "file").startswith("file: expected a folder that can be written")
    assert (tmp_path / "file").read_text() == "mine"


def test_device_that_is_not_there_is_refused(refuses, run):
    assert refuses(run, "--device", "cuda:99").startswith("--device: expected a device of this machine")
    assert "execution.device: expected auto, cpu, cuda, cuda:N or mps" in refuses(run, "--device", "gpu")


def test_split_whose_classes_are_missing_is_refused_with_their_names(cli, refuses, tmp_path):
    splits = published_classes("cifar_fs")
    noise_pack(tmp_path / "data" / "cifar-fs.npz", splits["train"] + splits["validation"])
    words = ("cifar-fs-5way-5shot", *TINY_IMAGES, "tasks.shots=1", "evaluation.split=validation")
    assert cli("train", *words, "--run-dir", "run").code == 0
    found = refuses("run", "--split", "test")
    assert all(name in found for name in splits["test"])


@pytest.mark.parametrize("name", ["checkpoints/last.safetensors", "manifest.json", "recipe.yaml"])
def test_run_with_a_damaged_file_is_refused_with_its_path(refuses, tmp_path, name):
    run = train_tiny(tmp_path / "run").path
    (run / name).write_bytes((run / name).read_bytes()[:20] + b"\xff")
    assert str(run / name) in refuses("run" if name == "nothing" else run)


def test_run_without_weights_is_refused_with_the_command_that_makes_them(refuses, tmp_path):
    trained = RunDirectory.open(train_tiny(tmp_path / "trained").path)
    run = RunDirectory.create(tmp_path / "run", trained.recipe, "x")
    assert f"mamlcli train --resume --run-dir {run.path}" in refuses(run.path)


@pytest.mark.parametrize("words", [["--steps", "0"], ["--tasks", "1"], ["--steps", "x"], ["--nothing"]])
def test_options_out_of_bounds_are_usage_errors(cli, run, words):
    assert cli("adapt", run, *words).code == 2


def test_keys_of_evaluation_say_another_protocol(cli, run):
    ended = cli("adapt", run, "evaluation.shots=4", "evaluation.seed=3", "--tasks", 4, "--json")
    protocol = json.loads(ended.out)["protocol"]
    assert (protocol["shots"], protocol["seed"], protocol["num_tasks"]) == (4, 3, 4)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["tasks.shots=4"], "tasks.shots=4: expected a key of evaluation .*Did you mean 'evaluation.shots'"),
        (["inner.lr=1"], "inner.lr=1: expected a key of evaluation with its value, got another word. For example"),
        (["evaluation.sots=4"], "evaluation.sots: expected a known key.*Did you mean 'shots'"),
        (["evaluation.steps=4", "--steps", 3], "--steps: expected not to be used with evaluation.steps"),
        (["evaluation.shots=4", "--support", "a", "--query", "b"], "evaluation.shots=4: expected not to be used with"),
    ],
)
def test_keys_that_cannot_be_changed_here_are_refused(refuses, run, words, reason):
    assert re.search(reason, refuses(run, *words))


def test_result_by_another_protocol_never_replaces_the_run_s_own(refuses, run):
    before = files_of(run)
    assert "expected another folder than the run's" in refuses(run, "evaluation.shots=4", "--out", run)
    assert files_of(run) == before
