"""`mamlcli train` meta-trains a recipe, then scores it on tasks it has never seen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import (
    DeviceOption,
    JsonOption,
    RecipeArguments,
    named_recipe,
    warn_about_selection,
)
from mamlcli.cli.workers import WorkersOption, num_workers_of, own_group, run_in_workers
from mamlcli.common.errors import RunError
from mamlcli.runs.search import RECIPE

if TYPE_CHECKING:
    from mamlcli.engine.sharing import WorkerGroup
    from mamlcli.recipe.schema import Recipe
    from mamlcli.runs.report import RunReport
    from mamlcli.training.dry_run import RunCost
    from mamlcli.training.start import Start


RunDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Where the run goes; by default runs/<recipe>-<number>.",
        show_default=False,
        autocompletion=complete.own_run,
    ),
]


ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume", help="Continue the run in --run-dir, from its last checkpoint; KEY=VALUE changes its recipe."
    ),
]


FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="Start from the weights of a trained run or model; without RECIPE with its recipe, too.",
        show_default=False,
        autocompletion=complete.run,
    ),
]


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
    source: FromOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Meta-train a recipe, then adapt to unseen tasks and show the adaptation curve.

    Without arguments: 5-way 1-shot on glyphs, which needs no download.

    With --resume the keys are changes to the run's own recipe: execution keys, tasks.path (where the data are now) and
    outer.iterations may change. With --from a new run starts from the weights of another, under any other keys that
    leave the shapes of its weights as they are.

    Examples:

      mamlcli train

      mamlcli train omniglot-5way-1shot inner.steps=5 seed=1

      mamlcli train my.yaml --dry-run

      mamlcli train --resume --run-dir runs/glyphs-5way-1shot-1

      mamlcli train --resume --run-dir runs/glyphs-5way-1shot-1 outer.iterations=2000 --device cpu

      mamlcli train --from runs/glyphs-5way-1shot-1 outer.lr=1e-4 outer.schedule=cosine

      mamlcli train omniglot-5way-1shot --workers 2
    """
    from mamlcli.cli.next_commands import typed_recipe

    with own_group(workers) as group:
        if group and group.rank:
            follow(group)
            return
        from mamlcli.training.start import start_of

        check_options(resume=resume, force=force, source=source)
        recipe, changes = named_recipe(arguments, device)
        start = start_of(recipe, changes, run_dir, source, is_resumed=resume, is_forced=force)
        number = num_workers_of(workers, start.recipe, group, run=start.path if resume and not dry_run else None)
        if dry_run:
            show_dry_run(start.name, start.recipe, number)
            return
        if number > 1 and group is None:
            raise typer.Exit(run_in_workers(number))
        report = train_run(start, group=group)
        typed = None if resume or source else typed_recipe(arguments, device)
        console.show(report, lambda report: report_parts(report, start.recipe, start.path_of(report), typed))


def follow(group: WorkerGroup) -> None:
    """Do the part of a worker other than 0: compute a share of each meta-batch, show nothing."""
    from mamlcli.training.follow import follow_run

    follow_run(group)


def check_options(*, resume: bool, force: bool, source: Path | None) -> None:
    """Raise RunError for options of which only one can be meant."""
    means = {
        "--resume": (resume, "--resume continues the run that is there"),
        "--force": (force, "--force replaces it"),
        "--from": (source is not None, "--from starts a new run"),
    }
    given = [option for option, (is_given, _) in means.items() if is_given]
    if resume and len(given) > 1:
        next_step = ", ".join(means[option][1] for option in given)
        got = "both" if len(given) == 2 else "all"
        raise RunError(" ".join(given), expected="one of them", got=got, next_step=next_step)


def train_run(start: Start, *, group: WorkerGroup | None = None) -> RunReport:
    """Train a run under a bar of progress and return its report; one that is done is not trained again."""
    from mamlcli.cli.progress import ProgressDisplay
    from mamlcli.engine.sharing import ALONE

    group = group or ALONE
    report = start.finished()
    if report is not None:
        console.note(f"{start.path} is already done; this is its result.")
        return report
    for line in start.notes():
        console.note(line)
    warn_about_selection(start.recipe)
    if start.is_resumed:
        note_other_workers(start.path, group.num_workers)
    argv = ["mamlcli", *sys.argv[1:]] if group.place else sys.argv  # as it was typed, not as workers are started
    with ProgressDisplay(start.recipe, start.is_resumed) as display:
        return start.train(argv=argv, progress=display.callbacks(), group=group)


def note_other_workers(path: Path, num_workers: int) -> None:
    """Say so where a run goes on with another number of workers."""
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.runs.going_on import change_words
    from mamlcli.training.manifest import recorded_workers

    recorded = recorded_workers(RunDirectory.open(path))
    if recorded != num_workers:
        console.note(*change_words({"workers": (recorded, num_workers)}))


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
