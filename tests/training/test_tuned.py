"""Choices of `bench --tune`: found again on the same machine for the same shapes, and never in the way."""

import json

import pytest
import torch

from mamlcli.common.errors import MamlError
from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import cnn
from mamlcli.training.tuned import (
    TimeSpread,
    TunedChoice,
    load_tuned,
    store_tuned,
    tuned_ignored,
    tuned_path,
    tuning_key,
)

# As a file of before `parallel` and `compile` holds it.
OLD = {"execution": {"path": "loop", "chunk": 1}}
CHOICE = TunedChoice(Execution("loop", 1))
FACTS = {
    "inner": {"algorithm": "maml", "lr": 0.1, "steps": 5},
    "num_inputs": 50,
    "num_tasks": 16,
    "num_steps": 5,
    "device": torch.device("cpu"),
    "dtype": torch.float32,
    "threads": 2,
}


def network(**changes):
    return cnn((1, 8, 8), 5, **{"depth": 2, "width": 4, **changes})


def key(net=None, **changes):
    return tuning_key(net or network(), **{**FACTS, **changes})


def test_what_was_stored_is_found():
    measured = TunedChoice(Execution("batched", 4), 2, TimeSpread(1.5, 1.0, 2.0, 3), "sinusoid")
    assert load_tuned("a") is None
    store_tuned("a", CHOICE)
    store_tuned("b", measured)
    assert load_tuned("a") == CHOICE
    assert load_tuned("b") == measured
    assert load_tuned("c") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b"null", b"[" * 100_000])
def test_a_damaged_file_is_ignored_with_a_line_and_replaced(content):
    tuned_path().parent.mkdir(parents=True)
    tuned_path().write_bytes(content)
    lines = []
    assert load_tuned("a", on_problem=lines.append) is None
    assert len(lines) == 1
    assert lines[0].startswith(f"{tuned_path()}: expected choices of mamlcli bench --tune, ignored:")
    store_tuned("a", CHOICE)
    assert load_tuned("a", on_problem=lines.append) == CHOICE
    assert len(lines) == 1


def test_a_choice_that_cannot_be_read_is_none_and_an_older_one_is_read():
    tuned_path().parent.mkdir(parents=True)
    tuned_path().write_text(json.dumps({"a": 3, "b": OLD, "c": {"execution": {"way": "loop"}}}))
    assert load_tuned("a") is None
    assert load_tuned("c") is None
    assert load_tuned("b") == CHOICE


def test_a_folder_that_cannot_be_made_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    with pytest.raises(MamlError, match="XDG_CACHE_HOME"):
        store_tuned("a", CHOICE)


def test_the_same_problem_has_the_same_key():
    assert key() == key(network())
    # Neither the rate nor the values of parameters change how long it takes.
    assert key() == key(inner={"algorithm": "maml", "lr": 0.5, "steps": 5})


@pytest.mark.parametrize(
    "changes",
    [
        {"net": network(width=5)},
        {"net": network(stride=2)},
        {"net": network(pool=2)},
        {"net": network(norm="none")},
        {"inner": {"algorithm": "anil"}},
        {"num_inputs": 30},
        {"num_tasks": 4},
        {"num_steps": 1},
        {"dtype": torch.float64},
        {"threads": 1},
    ],
    ids=str,
)
def test_another_problem_has_another_key(changes):
    assert key(**changes) != key()


def test_another_torch_has_another_key(monkeypatch):
    before = key()
    monkeypatch.setattr(torch, "__version__", "0.0.1")
    assert key() != before


def test_what_is_chosen_without_measuring_can_be_asked_for():
    store_tuned("a", CHOICE)
    with tuned_ignored():
        assert load_tuned("a") is None
    assert load_tuned("a") == CHOICE
