"""Compares the files of a run with what its manifest says of them: an edited recipe, metrics that were lost."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from mamlcli.common.json_reading import file_bytes, wrong
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.files import recipe_from_tree, recipe_to_tree
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.manifest import Manifest
from mamlcli.runs.metrics_check import noticed_in

_MOST_RECIPE_BYTES = 1 << 20


def recipe_note(recipe: Recipe, content: bytes) -> dict[str, object]:
    """Return the key of the manifest that notes a recipe: its values, and the digest of its file."""
    return {"recipe": {"sha256": hashlib.sha256(content).hexdigest(), "keys": recipe_to_tree(recipe)}}


def is_as_noted(file: Path, manifest: Manifest) -> bool:
    """Return whether recipe.yaml is, byte for byte, the one that the manifest notes."""
    try:
        content = file_bytes(file, _MOST_RECIPE_BYTES)
    except (OSError, ValueError):
        return False
    return hashlib.sha256(content).hexdigest() == manifest.recipe_digest


def noted_recipe(manifest: Manifest, where: str) -> Recipe | None:
    """Return the recipe that a run was trained by so far, as its manifest has it; None for one of an earlier version.

    Args:
        manifest: of the run.
        where: the manifest's file, for messages.

    Raises:
        RecipeError: what is noted is no recipe.
    """
    keys = manifest.recipe_keys
    return None if keys is None else recipe_from_tree(dict(keys), where=f"{where}: recipe.keys")


def listed_recipe(manifest: Manifest) -> Recipe:
    """Return the recipe that a manifest notes, as the schema reads it, for lists: whether keys conflict is not asked.

    Raises:
        ValueError: what is noted is no recipe; the message says where.
    """
    try:
        return Recipe.model_validate(manifest.recipe_keys)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise wrong(".".join(map(str, ("recipe.keys", *first["loc"]))), "a recipe's value", first["input"]) from error


def edits(recipe: Recipe, noted: Recipe | None) -> Mapping[str, tuple[object, object]]:
    """Return the keys in which recipe.yaml differs from the recipe that was trained by: (value then, value now)."""
    return {} if noted is None else recipe_difference(noted, recipe)


def notices(
    manifest: Manifest, recipe: Recipe | None, noted: Recipe | None, metrics: Path, num_steps: int
) -> list[str]:
    """Return in words what of a run's files is not as the run has left them, now and when it went on earlier.

    Args:
        manifest: of the run.
        recipe: of recipe.yaml; None if it cannot be read.
        noted: from `noted_recipe`.
        metrics: the file metrics.jsonl.
        num_steps: meta-iterations that it should tell of.
    """
    found = list(manifest.noticed)
    if recipe is not None and (changes := edits(recipe, noted)):
        listed = ", ".join(f"{key} is {now!r}, and was {then!r}" for key, (then, now) in changes.items())
        found.append(f"recipe.yaml was edited after the run was trained by it: {listed}")
    found += [f"{metrics.name}: {words}" for words in noticed_in(metrics, manifest.metrics_mark, num_steps)]
    return list(dict.fromkeys(found))
