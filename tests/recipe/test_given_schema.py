"""Recipes say that parts are given from Python by closed words, and nothing of their code."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import RecipeError
from mamlcli.recipe.files import recipe_from_tree

TASKS = {"source": "python", "classes": 3, "shots": 4, "queries": 5}


def test_recipe_of_given_parts_is_checked_as_any_other() -> None:
    recipe = recipe_from_tree({"tasks": TASKS, "model": {"kind": "python"}, "inner": {"transform": "python"}})
    assert (recipe.model.kind, recipe.is_classification) == ("python", True)
    assert not recipe_from_tree({"tasks": {**TASKS, "classes": None}, "model": {"kind": "python"}}).is_classification


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"model": {"kind": "python", "path": "mynets.Net"}}, "model.path: expected a known key"),
        ({"inner": {"algorithm": "anil", "joint_features": True}}, "false for model.kind=python"),
        ({"evaluation": {"shots": 2}}, "null for tasks.source=python"),
        ({"evaluation": {"ways": 2}}, "null for tasks.source=python"),
        ({"evaluation": {"batch_norm": "support"}}, "joint for a model without batch norm"),
    ],
)
def test_keys_that_do_not_go_with_given_parts_are_refused(tree: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe_from_tree({"tasks": TASKS, "model": {"kind": "python"}, **tree})
