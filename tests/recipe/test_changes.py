"""Recipes with keys changed, and what differs between two."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import RecipeError
from mamlcli.recipe.changes import changed_recipe, recipe_difference
from mamlcli.recipe.files import load_recipe


def test_changed_recipe_has_the_new_values_and_the_old_recipe_the_old_ones():
    recipe = load_recipe("logistic")[1]
    changed = changed_recipe(recipe, {"model.depth": 7, "inner.transform.name": "kfo"}, "here")
    assert recipe_difference(recipe, changed) == {
        "model.depth": (recipe.model.depth, 7),
        "inner.transform.name": ("none", "kfo"),
    }


def test_change_that_the_schema_refuses_names_its_place():
    with pytest.raises(RecipeError, match=r"^--depths 0: model\.depth: expected an integer >= 1, got 0\.$"):
        changed_recipe(load_recipe("logistic")[1], {"model.depth": 0}, "--depths 0")


REFERENCE = ["reference={metric: accuracy, value: 80, margin: 1}"]


def test_reference_is_no_difference_and_does_not_outlive_a_change():
    with_reference = load_recipe("logistic", REFERENCE)[1]
    assert recipe_difference(with_reference, with_reference.without_reference()) == {}
    assert recipe_difference(with_reference, load_recipe("logistic", ["reference=null"])[1]) == {}
    assert changed_recipe(with_reference, {"model.depth": 7}, "here").reference is None


def test_difference_names_keys_with_both_values():
    first = load_recipe("logistic")[1]
    second = load_recipe("logistic", ["seed=5", "inner.transform=kfo"])[1]
    assert recipe_difference(first, second) == {"seed": (0, 5), "inner.transform.name": ("none", "kfo")}
    assert recipe_difference(first, first) == {}


def test_difference_names_keys_that_one_of_them_lacks():
    difference = recipe_difference(load_recipe("logistic")[1], load_recipe("sinusoid")[1])
    assert difference["tasks.source"] == ("logistic", "sinusoid")
    assert difference["tasks.label_noise"] == (0.0, None)
    assert difference["tasks.noise"] == (None, 0.0)
