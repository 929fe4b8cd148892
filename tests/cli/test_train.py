"""`mamlcli train`, run as a user would."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from mamlcli.recipe.files import load_recipe, shipped_recipes
from mamlcli.tasks.images.class_splits import published_classes
from tests.helpers.image_files import class_folders
from tests.helpers.running import TINY, TINY_IMAGES, end_of, noise_pack, train_tiny

CIFAR = ("cifar-fs-5way-5shot", *TINY_IMAGES, "tasks.shots=1")


@pytest.fixture
def refuses(cli, tmp_path):
    """Require a command to be refused with exit code 1, in lines of errors alone, and to write nothing."""

    def refused(*words, num_errors=1):
        before = sorted(tmp_path.rglob("*"))
        ended = cli("train", *words)
        assert ended.code == 1, ended.err
        assert ended.out == ""
        lines = ended.err.splitlines()
        assert len(lines) == num_errors, ended.err
        assert all(line.startswith("error: ") for line in lines)
        assert sorted(tmp_path.rglob("*")) == before
        return "\n".join(ended.errors)

    return refused


def words_of(text):
    """Return a text without its line breaks, which depend on the width of the terminal."""
    return " ".join(text.split())


# What it shows ---------------------------------------------------------------------------------------------


def test_bare_train_learns_letters_and_shows_curve_and_next_commands(cli, with_glyphs, tmp_path):
    ended = cli("train", *TINY_IMAGES)
    assert ended.code == 0, ended.err
    assert "glyphs-5way-1shot: adaptation on 2 test tasks" in ended.out
    assert "5-way 1-shot, 2 queries per class; batch norm: batch statistics (transductive)" in words_of(ended.out)
    for row in ("0 (before)", "nearest neighbour on pixels", "chance"):
        assert row in ended.out
    assert "Query accuracy" in ended.out
    assert "mamlcli adapt runs/glyphs-5way-1shot-1 --steps 2" in words_of(ended.err)
    assert (tmp_path / "runs" / "glyphs-5way-1shot-1" / "curve.png").is_file()


def test_next_run_has_the_next_number(cli, tmp_path):
    for _ in range(2):
        assert cli("train", "linear-regression", *TINY).code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "linear-regression-1",
        "linear-regression-2",
    ]


def test_json_is_all_that_is_on_stdout(cli, tmp_path):
    ended = cli("train", "linear-regression", *TINY, "--json")
    assert ended.code == 0
    report = json.loads(ended.out)
    assert report == json.loads((tmp_path / "runs" / "linear-regression-1" / "evaluation.json").read_text())
    assert "iteration 2/2" in ended.err


def test_table_of_a_diverged_adaptation_keeps_its_shape(cli):
    ended = cli("train", "linear-regression", *TINY, "inner={lr: 1e4, steps: 1}", "evaluation.steps=30")
    assert ended.code == 0, ended.err
    rows = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines() if "±" in line or " - " in line}
    assert rows["30"] == ["-", "-"]
    assert max(map(len, ended.out.splitlines())) <= 120
    assert "Query loss overflowed after 30 inner steps" in ended.out


def test_dry_run_shows_recipe_and_cost_and_writes_nothing(cli, tmp_path):
    ended = cli("train", "linear-regression", *TINY, "--dry-run")
    assert ended.code == 0
    assert ended.out.startswith("# linear-regression, resolved\nseed: 0\ntasks:\n")
    assert "10 parameters" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_dry_run_as_json_holds_recipe_and_cost(cli, tmp_path):
    found = json.loads(cli("train", "linear-regression", *TINY, "--dry-run", "--json").out)
    assert found["recipe"] == load_recipe("linear-regression", TINY)[1].model_dump(mode="json")
    assert found["cost"]["num_parameters"] == 10
    assert list(tmp_path.iterdir()) == []


def test_file_of_ones_own_gives_the_run_its_name(cli, tmp_path):
    (tmp_path / "mine.yaml").write_text(shipped_recipes()["logistic"].read_text())
    assert cli("train", "mine.yaml", *TINY).code == 0
    assert (tmp_path / "runs" / "mine-1" / "evaluation.json").is_file()


def test_device_option_outranks_the_recipe(cli, tmp_path):
    words = [word for word in TINY if not word.startswith("execution.device")]
    assert cli("train", "linear-regression", *words, "execution.device=cuda:9", "--device", "cpu").code == 0
    assert "device: cpu" in (tmp_path / "runs" / "linear-regression-1" / "recipe.yaml").read_text()


def test_scoring_the_split_that_chose_the_weights_is_warned_of(cli):
    words = (*TINY, "validation={every: 1, tasks: 2}", "evaluation.split=validation")
    assert "warning: evaluation.split=validation" in cli("train", "linear-regression", *words).err


def test_folder_of_pictures_is_trained_on_directly(cli, tmp_path):
    class_folders(tmp_path / "photos", [f"class{index}" for index in range(12)], num_images=3)
    ended = cli("train", "folder", "tasks.path=photos", "tasks.ways=2", *TINY_IMAGES)
    assert ended.code == 0, ended.err
    manifest = json.loads((tmp_path / "runs" / "folder-1" / "manifest.json").read_text())
    assert (manifest["data"]["num_images"], manifest["data"]["num_classes"]) == (36, 12)


# Run directories -------------------------------------------------------------------------------------------


def test_folder_with_files_is_not_written_to(refuses, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for words in ((), ("--force",), ("--resume",)):
        assert refuses("linear-regression", *TINY, "--run-dir", "mine", *words).startswith("mine: expected")


def test_file_is_no_run_directory(refuses, tmp_path):
    (tmp_path / "file").write_text("mine")
    for words in ((), ("--force",), ("--resume",)):
        assert refuses("linear-regression", *TINY, "--run-dir", "file", *words).startswith("file: expected")
    assert refuses("linear-regression", *TINY, "--run-dir", "file/run").startswith("file/run: expected")


def test_run_is_replaced_by_force_alone(cli, refuses, tmp_path):
    run = train_tiny(tmp_path / "run").path
    assert "--force" in refuses("linear-regression", *TINY, "seed=3", "--run-dir", "run")
    assert cli("train", "linear-regression", *TINY, "seed=3", "--run-dir", "run", "--force").code == 0
    assert "seed: 3" in (run / "recipe.yaml").read_text()


def test_run_is_not_removed_by_force_for_a_recipe_that_cannot_run(refuses, tmp_path):
    run = train_tiny(tmp_path / "run").path
    refuses("cifar-fs-5way-5shot", "--run-dir", "run", "--force")
    assert (run / "evaluation.json").is_file()


def test_run_of_another_recipe_is_not_resumed(refuses, tmp_path):
    train_tiny(tmp_path / "run")
    found = refuses("linear-regression", *TINY, "seed=3", "--run-dir", "run", "--resume")
    assert "got another: seed (0 there, 3 here)" in found


def test_resuming_without_a_run_is_refused(refuses):
    assert "expected a run to resume, got none" in refuses("linear-regression", "--resume")
    assert "nothing: expected a run directory, got no such folder" in refuses("--resume", "--run-dir", "nothing")


def test_finished_run_is_shown_not_trained_again(cli, tmp_path):
    first = cli("train", "linear-regression", *TINY)
    run = tmp_path / "runs" / "linear-regression-1"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for words in (("linear-regression", *TINY, "--resume"), ("--resume", "--run-dir", run)):
        again = cli("train", *words)
        assert again.code == 0
        assert again.out == first.out
        assert "is already done; this is its result" in words_of(again.err)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_keys_and_device_of_a_resumed_run_are_changes_to_its_recipe(cli, tmp_path, monkeypatch):
    words = [word for word in TINY if not word.startswith("execution.")]
    assert cli("train", "linear-regression", *words, "outer.schedule=constant", "--run-dir", "run").code == 0
    monkeypatch.chdir(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    ended = cli("train", "--resume", "--run-dir", ".", "--device", "cpu", "execution.threads=1", "outer.iterations=3")
    assert ended.code == 0, ended.err
    shown = words_of(ended.err)
    assert "execution.device: cpu now, auto before; sums in another order round differently" in shown
    assert "outer.iterations: 3 now, 2 before; the run is scored anew" in shown
    refused = cli("train", "--resume", "--run-dir", ".", "seed=3", "inner.lr=0.123")
    assert refused.code == 1
    assert "got another: seed (0 there, 3 here), inner.lr (" in refused.err
    assert "glyphs" not in refused.err


def test_new_run_starts_from_the_weights_of_another(cli, tmp_path):
    train_tiny(tmp_path / "run")
    ended = cli("train", "--from", "run", "outer.iterations=1")
    assert ended.code == 0, ended.err
    shown = words_of(ended.err)
    assert "(last, iteration 2); taken: initialisation; new: outer optimizer" in shown
    manifest = json.loads((tmp_path / "runs" / "linear-regression-1" / "manifest.json").read_text())
    assert manifest["started_from"]["weights"] == "last, iteration 2"
    assert manifest["iterations_done"] == 1


def test_run_that_goes_on_neither_replaces_nor_starts_from_another(refuses, tmp_path):
    train_tiny(tmp_path / "run")
    assert "--resume --from: expected one of them" in refuses("--resume", "--from", "run", "--run-dir", "run")
    assert "--resume --force: expected one of them" in refuses("--resume", "--force", "--run-dir", "run")


# What it refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["linear-regresion"], "Did you mean 'linear-regression'?"),
        (["linear-regression", "inner.stpes=3"], "Did you mean 'steps'?"),
        (["linear-regression", "tasks.source=sinusiod"], "Did you mean 'sinusoid'?"),
        (["linear-regression", "model.depth=0"], "model.depth: expected an integer >= 1, got 0."),
        (["linear-regression", "inner.lr=-1"], "inner.lr: expected a number > 0, got -1."),
        (["linear-regression", "outer.lr=-1e-3"], "outer.lr: expected a number > 0, got -0.001."),
        (
            ["linear-regression", "--device", "gpu"],
            "execution.device: expected auto, cpu, cuda, cuda:N or mps, got 'gpu'",
        ),
        (["linear-regression", "linear-regression"], "expected key.path=value, got 'linear-regression'"),
        (["linear-regression", "model={kind: cnn}"], "model.kind: expected mlp or linear"),
        (["cifar-fs-5way-5shot"], "mamlcli data fetch cifar-fs"),
        (["mini-imagenet-5way-1shot"], "mamlcli data import mini-imagenet"),
        (["folder"], "mamlcli train folder tasks.path=DIR"),
        (["folder", "tasks.path=nothing"], "got 'nothing', which does not exist"),
        (["."], "got a folder"),
        (["sinusoid", "inner.adapt=[nope]"], "inner.adapt: expected a pattern that matches"),
    ],
)
def test_bad_input_is_one_line(refuses, words, expected):
    assert expected in refuses(*words)


def test_every_error_of_a_recipe_has_its_line(refuses):
    found = refuses("linear-regression", "inner.lr=-1", "inner.stpes=3", "outer.tasks=0", num_errors=3)
    assert all(line.startswith("command line: ") for line in found.splitlines())


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a: [1\n", b"- 1\n", b"? [1]\n: 2\n", b"[" * 3000])
def test_file_that_is_no_recipe_is_one_line(refuses, tmp_path, content):
    (tmp_path / "r.yaml").write_bytes(content)
    assert refuses("r.yaml").startswith("r.yaml")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_one_is_one_line(refuses):
    words = [word for word in TINY if not word.startswith("execution.device")]
    found = refuses("linear-regression", *words, "--device", "cuda")
    assert found.startswith("--device: expected a device of this machine, which has 0 CUDA devices, got 'cuda'")


@pytest.fixture
def cifar_of_two_splits(tmp_path):
    splits = published_classes("cifar_fs")
    return noise_pack(tmp_path / "data" / "cifar-fs.npz", splits["train"] + splits["validation"])


def test_missing_classes_of_a_split_are_all_named(refuses, cifar_of_two_splits):
    found = refuses(*CIFAR)
    assert "test split: expected all 20 classes of the split in the pack, got 20 missing" in found
    assert all(name in found for name in published_classes("cifar_fs")["test"])


def test_missing_classes_of_a_split_that_is_not_used_do_not_matter(cli, cifar_of_two_splits):
    assert cli("train", *CIFAR, "evaluation.split=validation").code == 0


def test_more_ways_or_shots_than_the_pack_has_is_one_line(refuses, cifar_of_two_splits):
    words = (*CIFAR, "evaluation.split=validation")
    assert "at most 16, the classes there are, got 17" in refuses(*words, "tasks.ways=17")
    assert "at most 6, the images of class" in refuses(*words, "tasks.shots=5")


def test_path_that_is_no_pack_is_one_line(refuses, cifar_of_two_splits, tmp_path):
    content = cifar_of_two_splits.read_bytes()
    (tmp_path / "truncated.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.npz").write_text("a text")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "objects.npz", images=np.array([{}]), labels=np.zeros(1, int), class_names=np.array(["a"]))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("truncated.npz", "text.npz", "empty.npz", "other.npz", "objects.npz", "array.npy", "nothing.npz"):
        found = refuses(*CIFAR, f"tasks.path={name}")
        assert found.startswith(f"{name}: expected")
        assert "allow_pickle" not in found
    assert refuses(*CIFAR, f"tasks.path={tmp_path}").startswith(
        f"{tmp_path}: expected a pack (.npz file), got a folder"
    )


def test_recipe_too_large_for_the_memory_is_the_users_error(cli):
    ended = cli("train", "linear-regression", *TINY, "tasks.shots=1000000", "tasks.dimension=100000")
    assert ended.code == 1
    assert ended.errors[0].startswith("memory: expected at least ")


# Pipes -----------------------------------------------------------------------------------------------------


def test_output_to_a_reader_that_leaves_is_no_traceback(tmp_path):
    # The reader of stdout is gone before anything is written.
    reader = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    reader.wait()
    command = [sys.executable, "-m", "mamlcli", "train", "linear-regression", *TINY, "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=reader.stdin, stderr=subprocess.PIPE, text=True)
    reader.stdin.close()
    ended = end_of(process)
    assert ended.code in (0, 1)
    assert "Traceback" not in ended.err
    assert "BrokenPipe" not in ended.err
    assert (tmp_path / "runs" / "linear-regression-1" / "evaluation.json").is_file()
