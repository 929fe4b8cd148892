"""Checkpoints: read back bit for bit, whole or refused."""

from __future__ import annotations

import pytest
import torch

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import checkpoint_path, load_checkpoint, save_checkpoint


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
    from safetensors.torch import save_file

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
