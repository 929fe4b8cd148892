"""Commands share these arguments and options, and what their words mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.common.errors import MamlError
from mamlcli.common.files import expanded
from mamlcli.common.names import SCORED_SPLITS
from mamlcli.runs.own_files import check_no_link_below_run

if TYPE_CHECKING:
    from mamlcli.recipe.schema import Recipe


DEFAULT_RECIPE = complete.DEFAULT_RECIPE


# What a bare study runs: tasks without a download, at a length of about two minutes on two cores.
BARE = (complete.DEFAULT_STUDY_RECIPE, "outer.iterations=200", "validation.every=100")


# Every line gets the rate that suits it: at the recipe's own, a single layer is far from its best.
BARE_INNER_LRS = "0.5,2,8"


# Arguments -----------------------------------------------------------------------------------------------------


RecipeArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE ...]",
        help="A shipped recipe or a file, then keys to change.",
        autocompletion=complete.recipe_and_keys,
    ),
]


StudyArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE ...]",
        help="A shipped recipe or a file, then keys to change.",
        autocompletion=complete.study_recipe_and_keys,
    ),
]


StartArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE|RUN] [KEY=VALUE ...]",
        help="A recipe, or a trained run to start from, then keys to change.",
        autocompletion=complete.start_and_keys,
    ),
]


RunArgument = Annotated[
    Path,
    typer.Argument(
        help="A run directory, its name below runs/, or a model of mamlcli models ls.",
        autocompletion=complete.run,
    ),
]


# Options -------------------------------------------------------------------------------------------------------


DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda[:N]|mps",
        help="Where to compute; by default what the recipe says.",
        autocompletion=complete.one_of("auto", "cpu", "cuda", "mps"),
        show_default=False,
    ),
]


# The console is told, and shows the result accordingly; commands take the option and do nothing with it.
JsonOption = Annotated[bool, typer.Option("--json", callback=console.choose_json, help="Print the result as JSON.")]


SplitOption = Annotated[
    str | None,
    typer.Option(
        help="train, validation, test or held-back; by default the recipe's.",
        show_default=False,
        autocompletion=complete.one_of(*SCORED_SPLITS),
    ),
]


SeedsOption = Annotated[int, typer.Option(min=1, help="How many seeds, from the recipe's upwards.")]


InnerLrsOption = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Inner learning rates to choose from, for each axis value by itself, on meta-validation tasks; by "
        f"default the recipe's own, and {BARE_INNER_LRS} where no recipe is given.",
        show_default=False,
    ),
]


JobsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Cells at a time; by default the cores, and 1 on a GPU.", show_default=False),
]


OnOption = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Where cells are trained: local, gpus[:N], slurm[:PROFILE] or tcp://HOST:PORT of a Dask scheduler; by "
        "default on each GPU where there are several, else here.",
        autocompletion=complete.one_of("local", "gpus", "slurm", "tcp://"),
        show_default=False,
    ),
]


PerGpuOption = Annotated[
    int | None,
    typer.Option(min=1, help="With --on gpus: cells at a time on each GPU; by default 1.", show_default=False),
]


DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="Where the study goes, or a study to finish; by default runs/<study>-<recipe>-<number>.",
        autocompletion=complete.study,
        show_default=False,
    ),
]


def place_to_write(context: typer.Context, path: Path | None) -> Path | None:
    """Return the place that an option names for what is written, unless a link in a run leads there.

    Raises:
        RunError: a link stands between a run's folder and this place.
    """
    if path is not None and not context.resilient_parsing:  # as in completion
        check_no_link_below_run(expanded(path))
    return path


# What the words mean -------------------------------------------------------------------------------------------


def recipe_and_overrides(
    arguments: list[str] | None, device: str | None = None, default: str = DEFAULT_RECIPE
) -> tuple[str, Recipe]:
    """Return the name and the recipe that `[RECIPE] [KEY=VALUE ...]` means.

    The first argument is a recipe unless it has the form key=value and is no file.
    """
    from mamlcli.recipe.files import load_recipe

    recipe, changes = named_recipe(arguments, device)
    return load_recipe(default if recipe is None else recipe, changes)


def named_recipe(arguments: list[str] | None, device: str | None = None) -> tuple[str | None, list[str]]:
    """Return the recipe that `[RECIPE] [KEY=VALUE ...]` names, None where it names none, and the keys to change."""
    words = list(arguments or [])
    recipe = words.pop(0) if has_recipe(words) else None
    if device is not None:
        words.append(f"execution.device={device}")
    return recipe, words


def warn_about_selection(recipe: Recipe) -> None:
    """Say so where the split that is scored also chose the weights."""
    split = recipe.evaluation.split
    if split == recipe.validation_split and recipe.validation.every:
        console.warn(
            f"evaluation.split={split}: other tasks of the same classes choose the best checkpoint, so the result "
            "is a little optimistic; validation.every=null leaves the choice out"
        )


def words(text: str) -> list[str]:
    """Return the parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def integers(text: str, option: str) -> list[int]:
    """Return a list of whole numbers such as `1,2,3`."""
    try:
        return [int(part) for part in words(text)]
    except ValueError as error:
        raise MamlError(option, expected="whole numbers separated by commas, as in 1,2,3", got=repr(text)) from error


def rates(text: str | None, arguments: list[str] | None) -> list[float]:
    """Return the rates of --inner-lrs: without it none, or those of a bare command that sets no rate itself."""
    if text is None:
        sets_rate = any(word.startswith("inner.lr=") for word in arguments or [])
        text = "" if has_recipe(arguments) or sets_rate else BARE_INNER_LRS
    try:
        return sorted({float(part) for part in words(text)})
    except ValueError as error:
        raise MamlError("--inner-lrs", expected="numbers separated by commas, as in 0.1,0.3", got=repr(text)) from error


def has_recipe(arguments: list[str] | None) -> bool:
    """Return whether the first argument names a recipe or a run, and not a key."""
    from mamlcli.recipe.habits import is_key

    return bool(arguments) and (not is_key(arguments[0]) or os.path.exists(arguments[0]))  # type: ignore[index]
