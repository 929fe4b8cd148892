"""A run that goes on may differ from its recipe in a few keys; which these are, and what is said of them, is here."""

from __future__ import annotations

from collections.abc import Mapping

from mamlcli.common.commands import command
from mamlcli.common.errors import RunError
from mamlcli.common.names import PATH_KEY
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.places import with_whole_path
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.manifest import Manifest
from mamlcli.runs.recorded import edits, noted_recipe
from mamlcli.runs.search import MANIFEST

# Dotted keys with their values (before, now).
Changes = Mapping[str, tuple[object, object]]

LENGTH = "outer.iterations"

# Keys that change no result beyond rounding. The number type is none of them.
ROUNDING = tuple(f"execution.{key}" for key in ("device", "path", "chunk", "compile", "threads"))

# What a change is noted under of which no key of the recipe tells.
_CODE = ("versions.", "git.", "device")

_FREE = (*ROUNDING, PATH_KEY, "outer.checkpoint_every", "execution.worker_timeout", "logging")


def recipe_changes(
    run: RunDirectory, recipe: Recipe, *, may_lengthen: bool = False
) -> dict[str, tuple[object, object]]:
    """Return the keys in which the recipe that a run goes on with differs from its own, with both values.

    Args:
        run: that goes on.
        recipe: resolved.
        may_lengthen: whether outer.iterations may differ, too.

    Raises:
        RunError: another key differs, on the command line or in recipe.yaml, which was edited; all are named.
    """
    noted = noted_recipe(run.manifest, str(run.path / MANIFEST)) or run.recipe
    changes = recipe_difference(with_whole_path(noted), with_whole_path(recipe))
    allowed = (*_FREE, LENGTH) if may_lengthen else _FREE
    others = {key: pair for key, pair in changes.items() if key not in allowed}
    if not others:
        return changes
    if edited := {key: pair for key, pair in edits(run.recipe, noted).items() if key in others}:
        raise _edited(run, edited)
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


def _edited(run: RunDirectory, changes: Changes) -> RunError:
    """Return the error of a run that cannot go on, since its recipe.yaml was edited after training had begun."""
    listed = ", ".join(f"{key} ({old!r} then, {new!r} now)" for key, (old, new) in changes.items())
    from_weights = command("train", "--from", run.path, *(f"{key}={new}" for key, (_, new) in changes.items()))
    return RunError(
        str(run.recipe_path),
        expected="the recipe that the run was trained by so far",
        got=f"one that was edited since: {listed}",
        why=f"A run goes on with its recipe; execution, {PATH_KEY} and {LENGTH} may change",
        next_step=f"Write the old values back, or start a new run from its weights: {from_weights}",
    )


def change_words(changes: Changes) -> list[str]:
    """Return a line for each key that is otherwise now, with what it means for the results."""
    return [f"{key}: {_text(new)} now, {_text(old)} before{_effect(key)}" for key, (old, new) in changes.items()]


def said_on_resume(manifest: Manifest, iteration: int) -> list[str]:
    """Return a line for each thing to know of a run that went on from an iteration: other code, lost or changed lines.

    Args:
        manifest: of the run, as it goes on.
        iteration: meta-iterations done.
    """
    code = {
        str(change["key"]): (change.get("before"), change.get("now"))
        for change in manifest.changes
        if change.get("iteration") == iteration and str(change.get("key")).startswith(_CODE)
    }
    return [*change_words(code), *manifest.noticed]


def _text(value: object) -> str:
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _effect(key: str) -> str:
    if key in ROUNDING or key in ("device", "workers"):
        return "; sums in another order round differently, so the last bits of results may differ"
    if key.startswith("versions."):
        return "; other versions may round differently"
    return {LENGTH: "; the run is scored anew", PATH_KEY: "; their digest says whether they are the same"}.get(key, "")
