"""After a training, the commands worth trying next are chosen here; each of them can be trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mamlcli.cli.options import DEFAULT_RECIPE, has_recipe
from mamlcli.common.commands import command
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.suggestions import is_recipe


def typed_recipe(arguments: Sequence[str] | None, device: str | None = None) -> list[str | Path]:
    """Return the recipe that was typed, as a path where it is a file, and the keys after it.

    Args:
        arguments: as they were typed.
        device: what --device says.
    """
    words = [*(arguments or []), *([] if device is None else [f"execution.device={device}"])]
    recipe = words.pop(0) if has_recipe(words) else DEFAULT_RECIPE
    return [Path(recipe) if Path(recipe).is_file() else recipe, *words]


def next_commands(
    recipe: Recipe, path: Path, words: Sequence[str | Path], *, num_inner_steps: int
) -> Iterator[tuple[str, str]]:
    """Yield commands worth trying after a run, each with its purpose.

    Args:
        recipe: of the run, resolved.
        path: the run's directory.
        words: that mean the run's recipe on the command line.
        num_inner_steps: of the run's result.
    """
    from mamlcli.training.given import parts_needed

    if parts_needed(recipe):  # which no command has
        yield command("runs", "show", path), "all about the run; from Python, mamlcli.score and load go on with it"
        return
    yield command("adapt", path, "--steps", str(2 * num_inner_steps)), "more inner steps than in training"
    for key, value, purpose in _changes(recipe):
        others = [str(word) for word in words[1:] if not str(word).startswith(f"{key}=")]
        if is_recipe(words[0], [*others, f"{key}={value}"]):
            yield command("train", words[0], *others, f"{key}={value}"), purpose
    yield command("recipes", "ls"), "other data and settings"


def _changes(recipe: Recipe) -> Iterator[tuple[str, object, str]]:
    """Yield keys with the value to try next, and why."""
    if isinstance(recipe.model, OutsideModel):
        return
    depth = recipe.model.depth
    if recipe.model.kind == "linear":
        yield "model.depth", depth + 1, "the same function class, one layer more"
        return
    if recipe.inner.algorithm != "anil":
        yield "inner.algorithm", "anil", "adapt the head alone"
    if depth > 1:
        yield "model.depth", 1, "a shallow network: the paper's question"
