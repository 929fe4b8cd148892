"""Suggests commands about a run: to score it again, to go on with it, to train its recipe with a key changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import RecipeError
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.files import load_recipe, shipped_recipes
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.models import label_of

# Of more keys than this, the file of the recipe is shorter.
_MAX_KEYS = 6


def adapt_again(path: Path) -> str:
    """Return the command that scores a run again and writes its result anew."""
    return command("adapt", label_of(path), "--out", label_of(path))


def resume(path: Path) -> str:
    """Return the command that goes on with a run."""
    return command("train", "--resume", "--run-dir", path)


def recipe_words(name: str, recipe: Recipe, file: Path) -> list[str | Path]:
    """Return the words that mean a run's recipe on the command line, before further keys.

    Args:
        name: of the recipe; a shipped one is named with the keys that differ, if those are few.
        recipe: resolved.
        file: that holds the recipe, for all others.
    """
    if name in shipped_recipes():
        changes = recipe_difference(load_recipe(name)[1], recipe)
        keys = [f"{key}={_value_text(value)}" for key, (_, value) in changes.items()]
        if len(keys) <= _MAX_KEYS and is_recipe(name, keys, recipe):
            return [name, *keys]
    return [file]


def is_recipe(name: str | Path, keys: Sequence[str], recipe: Recipe | None = None) -> bool:
    """Return whether a recipe with keys changed can be trained, and is the same as `recipe` if that is given."""
    try:
        changed = load_recipe(str(name), keys)[1]
    except RecipeError:
        return False
    return recipe is None or not recipe_difference(changed, recipe)


def _value_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
