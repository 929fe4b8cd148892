"""`mamlcli recipes verify` runs a recipe, or takes runs of it, and tests whether they reproduce its reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import JsonOption, recipe_and_overrides
from mamlcli.cli.runs import entries_of
from mamlcli.cli.study_display import again
from mamlcli.cli.train import train_run
from mamlcli.common.errors import Interrupted, MamlError, RunError
from mamlcli.common.names import RUNS
from mamlcli.runs.search import is_run

if TYPE_CHECKING:
    from mamlcli.recipe.schema import Recipe
    from mamlcli.runs.entry import RunEntry
    from mamlcli.runs.report import Protocol


NUM_SEEDS = 3


RecipeArguments = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE [KEY=VALUE ...]",
        help="A shipped recipe or a file, then keys to change.",
        autocompletion=complete.recipe_and_keys,
    ),
]


SeedsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help=f"How many seeds to run, from the recipe's upwards; by default {NUM_SEEDS}.", show_default=False
    ),
]


RunsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        help="A finished run to take instead; give it once for each seed.",
        autocompletion=complete.runs,
        show_default=False,
    ),
]


DirOption = Annotated[
    Path | None,
    typer.Option("--dir", help="Where the runs go, or go on; by default runs/verify-<recipe>.", show_default=False),
]


def verify(
    arguments: RecipeArguments,
    seeds: SeedsOption = None,
    run: RunsOption = None,
    directory: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe with several seeds and test whether it reproduces its reference, a published number or our own.

    The recipe's section `reference` has the number and the margin within which two count as equal. The verdict is
    equivalent, better, worse or undecided, by two one-sided t tests at 5 %: over seeds and tasks, or with one seed
    over tasks alone. The exit code is 0 for equivalent and better, else 1. The same command again continues where it
    was cut, and takes over the runs that are finished.

    Examples:

      mamlcli recipes verify linear-regression

      mamlcli recipes verify logistic --seeds 1 --json

      mamlcli recipes verify sinusoid evaluation.tasks=10000 --run sinusoid-1 --run sinusoid-2
    """
    from mamlcli.runs.verification import reference_of, verify_runs
    from mamlcli.runs.verification_tables import verification_parts

    name, recipe = recipe_and_overrides(arguments)
    reference_of(name, recipe)
    if run and (seeds or directory):
        raise MamlError("--run", expected="not to be used with --seeds and --dir", got="both")
    entries = entries_of(run) if run else runs_of(name, recipe, seeds or NUM_SEEDS, directory)
    done = verify_runs(name, recipe, protocol_at_reference(recipe), entries)
    done = replace(done, changes=tuple(arguments[1:]))
    console.show(done, verification_parts)
    if not done.is_reached:
        raise typer.Exit(1)


def protocol_at_reference(recipe: Recipe) -> Protocol:
    """Return how a recipe is scored, after the inner steps of its reference."""
    from mamlcli.training.scoring import protocol_of

    spec, reference = recipe.evaluation, recipe.reference
    steps = (reference.steps if reference else None) or spec.steps or recipe.inner.steps
    return protocol_of(recipe, split=spec.split, num_tasks=spec.tasks, num_steps=steps)


def runs_of(name: str, recipe: Recipe, num_seeds: int, directory: Path | None) -> list[RunEntry]:
    """Train a recipe with each seed, one after the other, and return the runs; those that are done are taken over."""
    from mamlcli.recipe.changes import changed_recipe
    from mamlcli.runs.entry import read_run

    folder = directory or RUNS / f"verify-{name}"
    paths = []
    for seed in range(recipe.seed, recipe.seed + num_seeds):
        path = folder / f"seed-{seed}"
        train_seed(name, changed_recipe(recipe, {"seed": seed}, "mamlcli recipes verify"), path, folder)
        paths.append(path)
    return [read_run(path) for path in paths]


def train_seed(name: str, recipe: Recipe, path: Path, folder: Path) -> None:
    """Train one run of a verification, or go on with it."""
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.runs.going_on import recipe_changes
    from mamlcli.training.start import Start

    is_there = is_run(path)
    if is_there:
        try:
            recipe_changes(RunDirectory.open(path), recipe)
        except RunError as error:
            next_step = "Name another --dir, or delete the run that is there"
            raise RunError(error.where, expected=error.expected, got=error.got, next_step=next_step) from error
    try:
        train_run(Start(name, recipe, path, is_resumed=is_there))
    except Interrupted as error:
        raise Interrupted(f"interrupted; what was done is saved. Continue: {again(folder)}") from error
