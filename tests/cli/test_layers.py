"""`mamlcli layers`, run as a user would."""

import json

import pytest

from tests.helpers.running import TINY_IMAGES, train_tiny


@pytest.fixture
def shallow(tmp_path):
    return train_tiny(tmp_path / "shallow", "linear-regression", "tasks.dimension=3", "model.depth=1")


@pytest.fixture
def deep(tmp_path):
    return train_tiny(tmp_path / "deep", "linear-regression", "tasks.dimension=3", "model.depth=3", "inner.lr=0.05")


@pytest.fixture
def conv(tmp_path, with_glyphs):
    return train_tiny(tmp_path / "conv", "glyphs-5way-1shot", "tasks.shots=1", *TINY_IMAGES, "model.depth=2")


def test_scores_with_all_layers_are_those_that_adapt_shows(cli, deep):
    adapted = json.loads(cli("adapt", "deep", "--tasks", 20, "--json").out)
    report = json.loads(cli("layers", "deep", "--tasks", 20, "--json").out)
    for row, point in ((report["partial"][0], adapted["curve"][0]), (report["partial"][3], adapted["final"])):
        assert row["loss"]["mean"] == pytest.approx(point["loss"]["mean"], rel=1e-5)
        assert row["loss"]["ci95_over_tasks"] == pytest.approx(point["loss"]["ci95_over_tasks"], rel=1e-5)


def test_tables_and_pictures_are_written_beside_the_run(cli, deep):
    done = cli("layers", "deep", "--tasks", 20)
    assert done.code == 0, done.err
    for words in ("1. How far", "2. Query scores", "3. What the other", "4. The bottom", "Collapsed into one"):
        assert words in done.out
    assert (deep.path / "layers.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (deep.path / "layers.svg").read_bytes()


def test_out_names_another_folder_for_the_pictures(cli, shallow, tmp_path):
    assert cli("layers", "shallow", "--tasks", 4, "--out", "seen").code == 0
    assert (tmp_path / "seen" / "layers.png").is_file()
    assert not (shallow.path / "layers.png").exists()


def test_one_layer_is_compared_with_the_best_operator_all_the_same(cli, shallow):
    done = cli("layers", "shallow", "--tasks", 8)
    assert "Distance to the best operator" in done.out
    assert "There is one layer, and nothing above it." in done.out
    assert "left: largest" not in done.out


def test_a_network_without_linear_stack_is_told_so_in_one_line(cli, conv):
    done = cli("layers", "conv", "--tasks", 3)
    assert done.code == 0, done.err
    assert "The head is one linear layer: no other layer transforms its gradient." in done.out
    report = json.loads(cli("layers", "conv", "--tasks", 3, "--json").out)
    assert report["operator"] is None
    assert report["collapse"] is None
    assert [row["upper_is_linear"] for row in report["bottom"]] == [False, True]
    assert 0 <= report["partial"][0]["accuracy"]["mean"] <= 1


def test_another_split_is_studied_on_demand(cli, shallow):
    report = json.loads(cli("layers", "shallow", "--tasks", 4, "--split", "train", "--json").out)
    assert report["protocol"]["split"] == "train"
    assert cli("layers", "shallow", "--split", "holdout").code == 1


def test_a_run_without_checkpoint_is_an_error_that_says_what_to_do(cli, shallow):
    (shallow.path / "checkpoints" / "last.safetensors").unlink()
    done = cli("layers", "shallow")
    assert done.code == 1
    assert len(done.errors) == 1
    assert done.errors[0].startswith("shallow: expected a checkpoint, got none.")
    assert done.errors[0].endswith("Copy its folder checkpoints, too, or train it again.")


def test_no_run_at_all_is_an_error(cli):
    done = cli("layers", "nowhere")
    assert done.code == 1
    assert done.errors == ["nowhere: expected a run directory, got no such folder. Run: mamlcli train"]


def test_a_folder_that_cannot_be_written_is_an_error(cli, shallow, tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = cli("layers", "shallow", "--tasks", 4, "--out", "taken")
    assert done.code == 1
    assert done.errors[0].startswith("taken: expected a folder that can be written")


def test_help_names_the_options(cli):
    text = cli("layers", "--help").out
    for word in ("--tasks", "--split", "--device", "--out", "--json"):
        assert word in text
