"""A small recipe, and what is wrong with one."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import RecipeError
from mamlcli.recipe.files import load_recipe

SMALL = "tasks: {source: logistic}\nmodel: {kind: mlp}\n"


def problems(name, *overrides):
    """Return all that is wrong with a recipe, each in one line of the form that errors have."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    for text in caught.value.problems:
        assert "\n" not in text
        assert "expected" in text
    return caught.value.problems


def problem(name, *overrides):
    """Return the only thing that is wrong with a recipe."""
    [text] = problems(name, *overrides)
    return text
