"""`mamlcli train` meta-trains a recipe, then scores it on tasks it has never seen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import DeviceOption, JsonOption, RecipeArguments, recipe_and_overrides, warn_about_selection
from mamlcli.cli.workers import WorkersOption, num_workers_of, own_group, run_in_workers
from mamlcli.common.errors import RunError
from mamlcli.runs.models import run_folder
from mamlcli.runs.search import RECIPE

if TYPE_CHECKING:
    from mamlcli.engine.sharing import WorkerGroup
    from mamlcli.recipe.schema import Recipe
    from mamlcli.runs.report import RunReport
    from mamlcli.training.dry_run import RunCost


RunDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Where the run goes; by default runs/<recipe>-<number>.",
        show_default=False,
        autocompletion=complete.own_run,
    ),
]


ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run, from its last checkpoint.")]


ForceOption = Annotated[bool, typer.Option("--force", help="Replace the run that is there.")]


DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show the resolved recipe and what it would cost; write nothing.")
]


def train(
    arguments: RecipeArguments = None,
    run_dir: RunDirOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    resume: ResumeOption = False,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Meta-train a recipe, then adapt to unseen tasks and show the adaptation curve.

    Without arguments: 5-way 1-shot on glyphs, which needs no download.

    Examples:

      mamlcli train

      mamlcli train omniglot-5way-1shot inner.steps=5 seed=1

      mamlcli train my.yaml --dry-run

      mamlcli train --resume --run-dir runs/glyphs-5way-1shot-1

      mamlcli train omniglot-5way-1shot --workers 2
    """
    from mamlcli.cli.next_commands import typed_recipe

    with own_group() as group:
        if group and group.rank:
            follow(group)
            return
        if resume and force:
            raise RunError(
                "--resume --force",
                expected="one of them",
                got="both",
                next_step="--resume continues the run that is there, --force replaces it",
            )
        name, recipe = run_recipe(arguments, run_dir, device, resume)
        if dry_run:
            number = num_workers_of(workers, recipe, group, run=None)
            show_dry_run(name, recipe, number)
            return
        path = run_path(name, run_dir, resume) if resume else None
        number = num_workers_of(workers, recipe, group, run=path)
        if number > 1 and group is None:
            raise typer.Exit(run_in_workers(number))
        path = path or run_path(name, run_dir, resume)
        report = train_run(name, recipe, path, resume=resume, force=force, group=group)
        typed = None if resume else typed_recipe(arguments, device)
        console.show(report, lambda report: report_parts(report, recipe, path, typed))


def follow(group: WorkerGroup) -> None:
    """Do the part of a worker other than 0: compute a share of each meta-batch, show nothing."""
    from mamlcli.training.follow import follow_run

    follow_run(group)


def run_recipe(
    arguments: list[str] | None, run_dir: Path | None, device: str | None, resume: bool
) -> tuple[str, Recipe]:
    """Return the name and the recipe to train: those of the resumed run, where no other recipe is named."""
    if resume and run_dir is not None and not arguments and device is None:
        from mamlcli.runs.folder import RunDirectory

        run = RunDirectory.open(run_dir)
        return run.name, run.recipe
    return recipe_and_overrides(arguments, device)


def run_path(name: str, run_dir: Path | None, resume: bool) -> Path:
    """Return where a run goes: where asked, else where `default_path` says."""
    from mamlcli.training.start import default_path

    if run_dir is not None:
        return run_folder(run_dir) if resume else run_dir
    return default_path(name, is_resumed=resume)


def train_run(
    name: str, recipe: Recipe, path: Path, *, resume: bool, force: bool, group: WorkerGroup | None = None
) -> RunReport:
    """Train a run under a bar of progress and return its report; one that is done is not trained again."""
    from mamlcli.cli.progress import ProgressDisplay
    from mamlcli.engine.sharing import ALONE
    from mamlcli.training.start import Start

    start, group = Start(name, recipe, path, is_resumed=resume, is_forced=force), group or ALONE
    if (report := start.finished()) is not None:
        console.note(f"{path} is already done; this is its result.")
        return report
    warn_about_selection(recipe)
    if resume:
        note_other_workers(path, group.num_workers)
    argv = ["mamlcli", *sys.argv[1:]] if group.place else sys.argv  # as it was typed, not as workers are started
    with ProgressDisplay(recipe, resume) as display:
        return start.train(argv=argv, progress=display.callbacks(), group=group)


def note_other_workers(path: Path, num_workers: int) -> None:
    """Say so where a run goes on with another number of workers."""
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.training.manifest import recorded_workers

    recorded = recorded_workers(RunDirectory.open(path))
    if recorded != num_workers:
        console.note(f"workers: {num_workers} now, {recorded} before; sums in another order round differently")


def report_parts(
    report: RunReport, recipe: Recipe, path: Path, typed: list[str | Path] | None = None
) -> Iterator[console.Part]:
    """Yield the adaptation curve, what it means, and what to try next.

    Args:
        report: the result of the run.
        recipe: resolved.
        path: the run's directory.
        typed: the words of the command line that mean the recipe; None for a run that was named instead.
    """
    from rich.text import Text

    from mamlcli.cli.next_commands import next_commands
    from mamlcli.runs.curve import curve_line, curve_table, verdict
    from mamlcli.runs.suggestions import recipe_words

    yield curve_table(report)
    yield curve_line(report)
    yield verdict(report)
    yield console.Note(f"\nThe picture of this curve: {path}/curve.png (and .svg). Next:")
    words = typed or recipe_words(report.recipe, recipe, path / RECIPE)
    for suggested, purpose in next_commands(recipe, path, words, num_inner_steps=report.protocol.inner_steps):
        yield console.Note(Text.assemble(f"  {suggested}   ", (f"# {purpose}", "dim")))


def show_dry_run(name: str, recipe: Recipe, num_workers: int) -> None:
    """Show the resolved recipe and its measured cost."""
    from mamlcli.recipe.files import recipe_to_tree
    from mamlcli.training.dry_run import dry_run

    if num_workers > 1:
        console.note(f"measured in one process; the run shares the tasks among {num_workers}")
    console.show(
        dry_run(recipe),
        lambda cost: dry_run_parts(name, recipe, cost),
        to_json=lambda cost: {"recipe": recipe_to_tree(recipe), "cost": cost.to_json()},
    )


def dry_run_parts(name: str, recipe: Recipe, cost: RunCost) -> Iterator[console.Part]:
    """Yield the resolved recipe, as a file could hold it, then its cost in words."""
    from mamlcli.recipe.files import recipe_to_yaml
    from mamlcli.runs.curve import cost_text

    yield console.Verbatim(f"# {name}, resolved\n{recipe_to_yaml(recipe)}")
    yield cost_text(cost.to_json(), recipe.outer.iterations)
    for note in cost.notes:
        yield console.Note(note)
