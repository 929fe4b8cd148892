"""The state of training: its settings, its export, and its return."""

import pytest
import torch

from mamlcli.engine.state import OuterLoop, is_meta_parameter, new_state, restore_state
from tests.helpers.outer_loops import copies, noisy_gradient, run, start, train_one


def test_names_tell_meta_parameters_from_the_optimizers_tensors():
    outer = OuterLoop(num_outer_steps=1, lr=0.1)
    state = new_state(start(), outer)
    run(state, outer)
    tensors, _ = state.export()
    assert [name for name in tensors if is_meta_parameter(name)] == list(start().flat())
    assert len(tensors) == 4 * len(start().flat())


def test_cosine_schedule_goes_from_lr_to_zero():
    outer = OuterLoop(num_outer_steps=10, lr=0.3, schedule="cosine")
    assert outer.lr_at(0) == 0.3
    assert outer.lr_at(5) == pytest.approx(0.15, rel=1e-14)
    assert outer.lr_at(10) == pytest.approx(0, abs=1e-16)
    rates = [outer.lr_at(i) for i in range(11)]
    assert rates == sorted(rates, reverse=True)


def test_cosine_schedule_ends_at_lr_min():
    outer = OuterLoop(num_outer_steps=10, lr=0.3, schedule="cosine", lr_min=0.1)
    assert outer.lr_at(0) == pytest.approx(0.3, rel=1e-14)
    assert outer.lr_at(5) == pytest.approx(0.2, rel=1e-14)
    assert outer.lr_at(10) == 0.1


def test_new_state_does_not_share_the_tensors_it_was_given():
    meta, outer = start(), OuterLoop(num_outer_steps=2, lr=0.1)
    run(new_state(meta, outer), outer)
    assert all(torch.equal(value, start().flat()[name]) for name, value in meta.flat().items())


def test_exported_state_does_not_change_with_later_steps():
    outer = OuterLoop(num_outer_steps=2, lr=0.1)
    state = new_state(start(), outer)
    stream = train_one(state, noisy_gradient, None, outer=outer)
    next(stream)
    tensors, primitives = state.export()
    kept = copies(tensors)
    next(stream)
    assert all(torch.equal(tensors[name], value) for name, value in kept.items())
    assert not torch.equal(tensors["model/w"], state.params["model/w"])
    assert primitives["iteration"] == 1


def test_exported_state_of_adam_has_its_moments_by_parameter_name():
    outer = OuterLoop(num_outer_steps=1, lr=0.1)
    state = new_state(start(), outer)
    run(state, outer)
    tensors, primitives = state.export()
    names = list(start().flat())
    slots = {f"optimizer/{slot}/{name}" for slot in ("step", "exp_avg", "exp_avg_sq") for name in names}
    assert set(tensors) == set(names) | slots
    assert all(type(value) in (int, float, bool, type(None)) for value in primitives.values())


def test_restoring_another_shape_or_a_missing_tensor_is_an_error():
    outer = OuterLoop(num_outer_steps=1, lr=0.1)
    tensors, primitives = new_state(start(), outer).export()
    with pytest.raises(ValueError, match=r"model/b: expected shape \[2\], got \[3\]"):
        restore_state(start(), outer, {**tensors, "model/b": torch.zeros(3)}, primitives)
    with pytest.raises(KeyError, match="model/w"):
        restore_state(start(), outer, {n: v for n, v in tensors.items() if n != "model/w"}, primitives)


WRONG = {
    "no number of iterations": (("iteration", "7"), "iteration: expected an integer >= 0, got '7'"),
    "a negative one": (("last_validated", -1), "last_validated: expected an integer >= 0, got -1"),
    "true for a number": (("num_without_best", True), "num_without_best: expected an integer >= 0, got True"),
    "a list for a score": (("best_score", [1]), r"best_score: expected a number or null, got \[1\]"),
    "a number for true": (("is_stopped", 0), "is_stopped: expected true or false, got 0"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_restoring_a_primitive_of_another_kind_is_an_error(change, message):
    outer = OuterLoop(num_outer_steps=1, lr=0.1)
    tensors, primitives = new_state(start(), outer).export()
    with pytest.raises(ValueError, match=message):
        restore_state(start(), outer, tensors, {**primitives, change[0]: change[1]})


def test_restoring_moments_of_another_shape_or_of_some_parameters_alone_is_an_error():
    outer = OuterLoop(num_outer_steps=1, lr=0.1)
    state = new_state(start(), outer)
    run(state, outer)
    tensors, primitives = state.export()
    key = "optimizer/exp_avg/model/b"
    with pytest.raises(ValueError, match=r"optimizer/exp_avg/model/b: expected shape \[2\], got \[3\]"):
        restore_state(start(), outer, {**tensors, key: torch.zeros(3)}, primitives)
    with pytest.raises(KeyError, match=key):
        restore_state(start(), outer, {name: value for name, value in tensors.items() if name != key}, primitives)
    with pytest.raises(ValueError, match="expected a parameter of the model, got 'model/other'"):
        restore_state(start(), outer, {**tensors, "optimizer/exp_avg/model/other": torch.zeros(3)}, primitives)
