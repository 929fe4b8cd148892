"""Sections: unknown keys and values of another type are refused, and nothing can be changed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mamlcli.recipe.keys import sections
from mamlcli.recipe.section import NonNegative, Positive, Rate, Section


class Example(Section):
    """A section with a key of each type."""

    flag: bool = False
    count: Positive = 1
    rate: Rate = 0.5
    noise: NonNegative = 0.0


def refused_keys(**values):
    with pytest.raises(ValidationError) as caught:
        Example.model_validate(values)
    return [item["loc"][-1] for item in caught.value.errors()]


@pytest.mark.parametrize("value", [1, 0, "true", "yes", None, 1.0])
def test_only_true_and_false_are_bools(value):
    assert refused_keys(flag=value) == ["flag"]


@pytest.mark.parametrize("value", [True, "3", 3.0, 0, -1])
def test_only_integers_from_one_on_are_counts(value):
    assert refused_keys(count=value) == ["count"]


@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf"), "1e-3"])
def test_only_finite_numbers_above_zero_are_rates(value):
    assert refused_keys(rate=value) == ["rate"]


@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf")])
def test_only_finite_numbers_from_zero_on_are_noise(value):
    assert refused_keys(noise=value) == ["noise"]
    assert Example.model_validate({"noise": 0}).noise == 0.0


def test_integer_is_taken_as_a_rate():
    assert Example.model_validate({"rate": 1}).rate == 1.0


def test_unknown_keys_are_all_refused():
    assert refused_keys(cuont=3, rte=1.0) == ["cuont", "rte"]


def test_section_is_frozen():
    with pytest.raises(ValidationError):
        Example().count = 3


@pytest.mark.parametrize(("key", "most"), [("count", 10**9), ("rate", 1e30), ("noise", 1e30)])
def test_numbers_have_an_upper_bound(key, most):
    assert getattr(Example.model_validate({key: most}), key) == most
    assert refused_keys(**{key: most * 10}) == [key]


def test_every_number_of_a_recipe_has_both_bounds():
    unbounded = [
        key.name
        for section in sections()
        for key in section.keys
        if {"integer", "number"} & set(key.types) and not ({word.split()[0][0] for word in key.bounds} >= {"<", ">"})
    ]
    assert unbounded == []
