"""Recipes are changed by dotted keys and compared here."""

from __future__ import annotations

from collections.abc import Mapping

from mamlcli.recipe.files import recipe_from_tree, recipe_to_tree
from mamlcli.recipe.schema import Recipe


def changed_recipe(recipe: Recipe, changes: Mapping[str, object], where: str) -> Recipe:
    """Return a recipe with some dotted keys changed, checked as a whole, and without its reference.

    Raises:
        RecipeError: with every problem; each begins with `where`.
    """
    tree = recipe_to_tree(recipe.without_reference())
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        section = tree
        for key in path:
            section = section[key]
        section[last] = value
    return recipe_from_tree(tree, where=where)


def recipe_difference(a: Recipe, b: Recipe) -> dict[str, tuple[object, object]]:
    """Return the dotted keys in which two recipes differ, with both values; their references do not count."""
    flat_a, flat_b = flat_recipe(a), flat_recipe(b)
    keys = [*flat_a, *(key for key in flat_b if key not in flat_a)]
    return {key: (flat_a.get(key), flat_b.get(key)) for key in keys if flat_a.get(key) != flat_b.get(key)}


def flat_recipe(recipe: Recipe) -> dict[str, object]:
    """Return the values of a recipe by their dotted keys, without its reference."""
    return _flat(recipe_to_tree(recipe.without_reference()))


def _flat(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Return the values of a tree by their dotted keys."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
