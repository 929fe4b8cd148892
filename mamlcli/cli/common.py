"""What several commands share: options, and recipes with overrides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console

if TYPE_CHECKING:
    from mamlcli.recipe import Recipe

DEFAULT_RECIPE = complete.DEFAULT_RECIPE

DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda[:N]",
        help="Where to compute; by default what the recipe says.",
        autocompletion=complete.one_of("auto", "cpu", "cuda"),
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def recipe_and_overrides(
    arguments: list[str] | None, device: str | None = None, default: str = DEFAULT_RECIPE
) -> tuple[str, Recipe]:
    """Return the name and the recipe that `[RECIPE] [KEY=VALUE ...]` means.

    The first argument is a recipe unless it has the form key=value and is no file.
    """
    from mamlcli.recipe_files import load_recipe

    words = list(arguments or [])
    is_recipe_first = bool(words) and ("=" not in words[0] or Path(words[0]).is_file())
    recipe = words.pop(0) if is_recipe_first else default
    if device is not None:
        words.append(f"execution.device={device}")
    return load_recipe(recipe, words)


def warn_about_selection(recipe: Recipe) -> None:
    """Say so where the split that is scored also chose the weights."""
    if recipe.evaluation.split == "validation" and recipe.validation.every:
        console.warn(
            "evaluation.split=validation: other tasks of the same classes choose the best checkpoint, so the result "
            "is a little optimistic; validation.every=null leaves the choice out"
        )
