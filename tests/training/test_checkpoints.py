"""Checkpoints: read back bit for bit, whole or refused, and the one before is kept."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from mamlcli.common.errors import Interrupted, RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import (
    STATE_KEY,
    checkpoint_path,
    is_the_one_before,
    load_checkpoint,
    path_before,
    save_checkpoint,
)
from mamlcli.training.experiment import build
from mamlcli.training.trained import best_weights
from tests.helpers.running import assert_same_results, stop_at, train_tiny


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "run", load_recipe("linear-regression")[1], "a")


def checkpoint():
    tensors = {
        "model/a": torch.tensor([[1.5, float("nan")], [float("inf"), -0.0]]),
        "model/b": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,  # not contiguous
        "optimizer/step/model/a": torch.tensor(7.0),
    }
    return tensors, {"iteration": 7, "best_score": None, "is_stopped": False, "x": -0.1}


def test_checkpoint_is_read_back_bit_for_bit(run):
    tensors, primitives = checkpoint()
    save_checkpoint(run, "last", tensors, primitives)
    found, found_primitives = load_checkpoint(run, "last")
    assert found_primitives == primitives
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert found[name].numpy().tobytes() == value.contiguous().numpy().tobytes()


def test_missing_checkpoint_is_none(run):
    assert load_checkpoint(run, "best") is None


def test_failed_write_leaves_the_checkpoint_before_it(run, monkeypatch):
    tensors, primitives = checkpoint()
    save_checkpoint(run, "last", tensors, primitives)

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(run, "last", tensors, {"iteration": 8})
    assert load_checkpoint(run, "last")[1]["iteration"] == 7
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["last.safetensors"]


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_truncated_checkpoint_is_refused_with_its_path(run, part):
    save_checkpoint(run, "last", *checkpoint())
    path = checkpoint_path(run, "last")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(RunError, match=r"last\.safetensors: expected a whole checkpoint"):
        load_checkpoint(run, "last")


def test_tensors_of_another_program_are_no_checkpoint(run):
    save_file({"a": torch.zeros(1)}, checkpoint_path(run, "last"))
    with pytest.raises(RunError, match="expected a whole checkpoint"):
        load_checkpoint(run, "last")


@pytest.mark.parametrize("length", range(0, 64, 4))
def test_loaded_tensors_begin_where_new_ones_do_whatever_the_header(run, length):
    # A BLAS may round by the place of a matrix in memory; in the file it is where the header's length has it.
    values = {"a": torch.arange(3, dtype=torch.float32), "b": torch.eye(5), "c": torch.ones(7, dtype=torch.float64)}
    save_checkpoint(run, "last", values, {"text": "x" * length})
    loaded, _ = load_checkpoint(run, "last")
    assert {name: tensor.data_ptr() % 64 for name, tensor in loaded.items()} == dict.fromkeys(values, 0)
    assert all(torch.equal(loaded[name], value) for name, value in values.items())


# Changed bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", [0, 5, 7])
def test_changed_bit_anywhere_in_a_checkpoint_is_found(run, bit):
    save_checkpoint(run, "last", *checkpoint())
    path = checkpoint_path(run, "last")
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        with pytest.raises(RunError, match=r"last\.safetensors: expected a whole checkpoint"):
            load_checkpoint(run, "last")


def test_checkpoint_of_a_version_without_checksums_is_read(run):
    tensors, primitives = checkpoint()
    tensors["model/b"] = tensors["model/b"].contiguous()
    save_file(tensors, checkpoint_path(run, "last"), metadata={STATE_KEY: json.dumps(primitives)})
    found, found_primitives = load_checkpoint(run, "last")
    assert found_primitives == primitives
    assert all(found[name].numpy().tobytes() == value.numpy().tobytes() for name, value in tensors.items())


def test_same_checkpoint_is_written_as_the_same_bytes(run):
    for _ in range(2):
        save_checkpoint(run, "last", *checkpoint())
    assert checkpoint_path(run, "last").read_bytes() == path_before(run, "last").read_bytes()


# The one before ---------------------------------------------------------------------------------------------------


def damage(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x40
    path.write_bytes(content)


def save_two(run, which="last"):
    tensors, primitives = checkpoint()
    for iteration in (7, 8):
        save_checkpoint(run, which, tensors, primitives | {"iteration": iteration})


@pytest.mark.parametrize("which", ["last", "best"])
def test_damaged_checkpoint_is_refused_and_the_one_before_it_is_offered_and_used(run, which):
    save_two(run, which)
    damage(checkpoint_path(run, which))
    offered = rf"{which}-before\.safetensors, the one before it, is whole: it is of iteration 7\. .* remove the damaged"
    with pytest.raises(RunError, match=offered):
        load_checkpoint(run, which)
    checkpoint_path(run, which).unlink()
    assert is_the_one_before(run, which)
    assert load_checkpoint(run, which)[1]["iteration"] == 7


def test_two_damaged_checkpoints_offer_nothing(run):
    save_two(run)
    damage(checkpoint_path(run, "last"))
    damage(path_before(run, "last"))
    with pytest.raises(RunError, match=r"the one before it, is damaged, too\. Copy it again"):
        load_checkpoint(run, "last")


def test_write_cut_between_its_two_renames_leaves_the_checkpoint_before_it(run, monkeypatch):
    save_two(run)
    replace = os.replace

    def crash(source, target):
        if str(source).endswith(".partial"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(run, "last", *checkpoint())
    assert not checkpoint_path(run, "last").exists()
    assert load_checkpoint(run, "last")[1]["iteration"] == 8


def test_weights_before_damaged_ones_are_called_so(tmp_path, one_thread):
    run = train_tiny(tmp_path / "run", "linear-regression", "outer.checkpoint_every=1")
    checkpoint_path(run, "last").unlink()
    experiment = build(run.recipe, splits=("test",))
    assert best_weights(run, experiment)[1] == "last before one that is missing, iteration 1"


# Runs that go on --------------------------------------------------------------------------------------------------

WORDS = ("outer.iterations=8", "outer.checkpoint_every=2", "validation={every: 3, tasks: 3}", "outer.lr=0.001")


@pytest.fixture
def cut(tmp_path, one_thread):
    """A run that was interrupted after seven of eight meta-iterations, with checkpoints at six and seven."""
    with pytest.raises(Interrupted):
        train_tiny(tmp_path / "cut", "linear-regression", *WORDS, progress=stop_at(7))
    return RunDirectory.open(tmp_path / "cut")


@pytest.mark.parametrize("which", ["last", "best"])
def test_run_with_a_damaged_checkpoint_does_not_go_on(cut, which):
    damage(checkpoint_path(cut, which))
    with pytest.raises(RunError, match=rf"{which}\.safetensors: expected a whole checkpoint"):
        train_tiny(cut.path, "linear-regression", *WORDS)


def test_run_whose_damaged_checkpoint_is_removed_ends_in_the_same_bits(cut, tmp_path):
    whole = train_tiny(tmp_path / "whole", "linear-regression", *WORDS)
    damage(checkpoint_path(cut, "last"))
    with pytest.raises(RunError, match=r"it is of iteration 6\. To go on from that one, remove the damaged file"):
        load_checkpoint(cut, "last")
    checkpoint_path(cut, "last").unlink()
    train_tiny(cut.path, "linear-regression", *WORDS)
    assert_same_results(whole.path, cut.path)


def test_damaged_best_that_training_can_make_again_says_how(cut, tmp_path):
    whole = train_tiny(tmp_path / "whole", "linear-regression", *WORDS)
    tensors, primitives = load_checkpoint(cut, "last")
    assert primitives["best_iteration"] == 6
    save_checkpoint(cut, "last", tensors, primitives)
    earlier = tmp_path / "earlier"
    with pytest.raises(Interrupted):
        train_tiny(earlier, "linear-regression", *WORDS, progress=stop_at(5))
    checkpoint_path(RunDirectory(earlier), "last").replace(path_before(cut, "last"))
    damage(checkpoint_path(cut, "best"))
    with pytest.raises(RunError, match=r"goes on from last-before\.safetensors, of iteration 5, before the best"):
        train_tiny(cut.path, "linear-regression", *WORDS)
    for which in ("last", "best"):
        checkpoint_path(cut, which).unlink()
    train_tiny(cut.path, "linear-regression", *WORDS)
    assert_same_results(whole.path, cut.path)
