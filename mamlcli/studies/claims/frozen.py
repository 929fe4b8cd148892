"""A plan holds the resolved recipe of each of its cells; a recipe that has changed since is found here.

Shipped recipes and the code that resolves them may differ in another version. Runs of two recipes under one plan would
be compared as if they were of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mamlcli.common.errors import MamlError
from mamlcli.recipe.changes import changed_recipe, recipe_difference
from mamlcli.recipe.files import recipe_from_tree, recipe_to_tree
from mamlcli.recipe.schema import Recipe
from mamlcli.studies.claims.plan import Family, Plan
from mamlcli.studies.claims.reproduction import sweep_of
from mamlcli.studies.sweeps.folder import ELSEWHERE
from mamlcli.studies.sweeps.sweep import cells_of

# What a plan holds of a family: its base recipe, and of each value the dotted keys in which its cells differ from it.
BASE, CELLS = "base", "cells"


def frozen_recipes(families: Sequence[Family], first_seed: int) -> dict[str, dict[str, Any]]:
    """Return the resolved recipes of all cells, at the first seed, by the families' keys, as plan.json holds them."""
    found = {}
    for family in families:
        base, cells = _resolved(family, first_seed)
        changes = {value: recipe_difference(base, recipe) for value, recipe in cells.items()}
        found[family.key] = {
            BASE: recipe_to_tree(base.without_reference()),
            CELLS: {value: {key: new for key, (_, new) in keys.items()} for value, keys in changes.items()},
        }
    return found


def _resolved(family: Family, first_seed: int) -> tuple[Recipe, dict[str, Recipe]]:
    """Return the recipe of a family and, by value, that of its cells at the first seed."""
    sweep = sweep_of(family, first_seed=first_seed, num_seeds=1)
    return sweep.recipe, {cell.value.label: cell.recipe for cell in cells_of(sweep)}


def changed_recipes(plan: Plan) -> list[str]:
    """Return in words which cells have another recipe in this version than in the plan, a sentence for each family.

    Nothing is said of a plan of before recipes were registered, nor of where runs compute and where their data are.
    """
    if plan.registered_recipes is None:
        return []
    return [words for family in plan.families for words in _changed(family, plan, plan.registered_recipes)]


def _changed(family: Family, plan: Plan, registered: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield, where a family's recipes have changed, which keys of how many cells."""
    cells: dict[str, list[str]] = {}
    try:
        base = recipe_from_tree(registered[family.key][BASE], where="plan.json")
        _, now = _resolved(family, plan.first_seed)
        for value, changes in registered[family.key][CELLS].items():
            difference = recipe_difference(changed_recipe(base, changes, "plan.json"), now[value])
            for key, (there, here) in difference.items():
                if key not in ELSEWHERE:
                    cells.setdefault(f"{key} ({there!r} there, {here!r} here)", []).append(value)
    except (MamlError, LookupError, TypeError, AttributeError) as error:
        yield f"{family.words}: this version cannot read its recipes in the plan: {error}"
        return
    if cells:
        num = len(registered[family.key][CELLS])
        keys = [words if len(of) == num else f"{words} of {', '.join(of)}" for words, of in cells.items()]
        yield f"{family.words}: {'; '.join(keys)}"
