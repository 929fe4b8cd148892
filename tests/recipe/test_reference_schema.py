"""The number that a recipe should reproduce: what must be said of it, and where it stays."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mamlcli.recipe.files import load_recipe, recipe_to_tree, recipe_to_yaml
from mamlcli.recipe.reference_schema import Reference
from tests.helpers.recipes import SMALL, problem, problems

WHOLE = {"metric": "accuracy", "value": 98.7, "margin": 0.4}
SECTION = "reference: {metric: accuracy, value: 98.7, margin: 0.4, source: a paper}\n"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metric", "loss"),
        ("value", -1.0),
        ("value", float("nan")),
        ("margin", 0.0),
        ("margin", float("inf")),
        ("steps", 0),
    ],
)
def test_value_out_of_bounds_is_refused(key, value):
    with pytest.raises(ValidationError) as caught:
        Reference.model_validate({**WHOLE, key: value})
    assert [item["loc"] for item in caught.value.errors()] == [(key,)]


def test_metric_value_and_margin_are_required(write):
    texts = problems(write(f"{SMALL}reference: {{source: a paper}}\n"))
    assert [text.split(": ")[1] for text in texts] == ["reference.metric", "reference.value", "reference.margin"]


def test_unknown_key_is_refused_with_the_nearest_name(write):
    line = problem(write(f"{SMALL}reference: {{metric: accuracy, value: 98, margin: 1, margins: 2}}\n"))
    assert "reference.margins: expected a known key, got 'margins'. Did you mean 'margin'?" in line


@pytest.mark.parametrize("value", ["3", "text", "[1]"])
def test_reference_that_is_no_section_is_refused(small, value):
    assert "command line: reference: expected keys and values" in problem(small, f"reference={value}")


def test_reference_is_read_and_written_back(write):
    recipe = load_recipe(write(SMALL + SECTION))[1]
    assert recipe.reference == Reference(**WHOLE, source="a paper")
    assert load_recipe(write(recipe_to_yaml(recipe)))[1] == recipe


def test_recipe_without_a_reference_is_written_without_the_key(small):
    assert "reference" not in recipe_to_tree(load_recipe(small)[1])
