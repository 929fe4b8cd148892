"""How errors are worded: where, what was expected, what was found, why, what to do."""

from __future__ import annotations

import pytest

from mamlcli.common import errors
from mamlcli.common.errors import DataError, Interrupted, MamlError, RecipeError, is_missing_on_mps, is_out_of_memory


def test_message_has_its_parts_in_order_each_with_one_full_stop():
    error = MamlError(
        "--seeds 0", expected="an integer >= 1", got="0", why="There is no other.", next_step="Run: mamlcli --help."
    )
    assert str(error) == "--seeds 0: expected an integer >= 1, got 0. There is no other. Run: mamlcli --help."


def test_message_leaves_out_what_is_not_given():
    assert str(DataError("x.npz", expected="a pack")) == "x.npz: expected a pack."
    assert str(DataError("x.npz", expected="a pack", next_step="Make one")) == "x.npz: expected a pack. Make one."


def test_reason_that_is_a_question_keeps_its_mark():
    error = MamlError("kfo2", expected="a transform", why="Did you mean 'kfo'?", next_step="Change it")
    assert str(error) == "kfo2: expected a transform. Did you mean 'kfo'? Change it."


def test_recipe_error_is_its_problems_line_by_line():
    error = RecipeError(["a: expected 1.", "b: expected 2."])
    assert error.problems == ["a: expected 1.", "b: expected 2."]
    assert str(error) == "a: expected 1.\nb: expected 2."


def test_every_error_is_a_users_mistake_but_an_interruption():
    classes = {value for value in vars(errors).values() if isinstance(value, type)}
    assert {cls for cls in classes if not issubclass(cls, MamlError)} == {Interrupted}


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("shapes do not match"), False),
        (MamlError("memory", expected="less"), False),
    ],
)
def test_lack_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_every_part_of_a_message_is_one_line_that_can_be_printed() -> None:
    error = DataError("a\nb", expected="x\ty", got="\x1b[2J", why="\u202e", next_step="z\r")
    assert str(error) == r"a\nb: expected x\ty, got \x1b[2J. \u202e. z\r."
    assert error.where == r"a\nb"
    assert str(RecipeError(["a\nb", "c"])) == "a\\nb\nc"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device."), True),
        (TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."), True),
        (RuntimeError("shapes do not match"), False),
        (MamlError("device", expected="another", got="on MPS"), False),
    ],
)
def test_what_a_mac_lacks_is_told_from_other_errors(error, expected):
    assert is_missing_on_mps(error) is expected
