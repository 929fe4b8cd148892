"""A run that goes on may differ from its recipe in a few keys; which these are, and what is said of them, is here."""

from __future__ import annotations

from collections.abc import Mapping

from mamlcli.common.commands import command
from mamlcli.common.errors import RunError
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.places import PATH_KEY, with_whole_path
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory

# Dotted keys with their values (before, now).
Changes = Mapping[str, tuple[object, object]]

LENGTH = "outer.iterations"

# Keys that change no result beyond rounding. The number type is none of them.
ROUNDING = tuple(f"execution.{key}" for key in ("device", "path", "chunk", "compile", "threads"))

_FREE = (*ROUNDING, PATH_KEY, "outer.checkpoint_every")


def recipe_changes(
    run: RunDirectory, recipe: Recipe, *, may_lengthen: bool = False
) -> dict[str, tuple[object, object]]:
    """Return the keys in which the recipe that a run goes on with differs from its own, with both values.

    Args:
        run: that goes on.
        recipe: resolved.
        may_lengthen: whether outer.iterations may differ, too.

    Raises:
        RunError: another key differs; all of them are named.
    """
    changes = recipe_difference(with_whole_path(run.recipe), with_whole_path(recipe))
    allowed = (*_FREE, LENGTH) if may_lengthen else _FREE
    others = {key: pair for key, pair in changes.items() if key not in allowed}
    if not others:
        return changes
    listed = ", ".join(f"{key} ({old!r} there, {new!r} here)" for key, (old, new) in others.items())
    if list(others) == [LENGTH]:
        resume = command("train", "--resume", "--run-dir", run.path, f"{LENGTH}={others[LENGTH][1]}")
        next_step = f"To train this run for longer: {resume}"
    else:
        resume, new = command("train", "--resume", "--run-dir", run.path), command("train", "--from", run.path)
        next_step = f"Run: {resume}, or start a new run from its weights: {new} KEY=VALUE"
    why = f"A run goes on with its recipe; execution, {PATH_KEY} and {LENGTH} may change"
    raise RunError(
        str(run.path), expected="a run of the same recipe", got=f"another: {listed}", why=why, next_step=next_step
    )


def change_words(changes: Changes) -> list[str]:
    """Return a line for each key that is otherwise now, with what it means for the results."""
    return [f"{key}: {_text(new)} now, {_text(old)} before{_effect(key)}" for key, (old, new) in changes.items()]


def _text(value: object) -> str:
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _effect(key: str) -> str:
    if key in ROUNDING or key in ("device", "workers"):
        return "; sums in another order round differently, so the last bits of results may differ"
    return {LENGTH: "; the run is scored anew", PATH_KEY: "; their digest says whether they are the same"}.get(key, "")
