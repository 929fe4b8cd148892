"""`mamlcli train`: meta-train a recipe, then score it on tasks it has never seen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.common import DeviceOption, JsonOption, recipe_and_overrides, warn_about_selection
from mamlcli.cli.workers import WorkersOption, num_workers_of, own_group, run_in_workers
from mamlcli.errors import RunError

if TYPE_CHECKING:
    from mamlcli.build import Experiment
    from mamlcli.distributed import WorkerGroup
    from mamlcli.recipe import Recipe
    from mamlcli.rundir import RunDirectory
    from mamlcli.session import Progress

RUNS = Path("runs")


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE ...]",
            help="A shipped recipe or a file, then keys to change.",
            autocompletion=complete.recipe_and_keys,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the run goes; by default runs/<recipe>-<number>.",
            show_default=False,
            autocompletion=complete.run,
        ),
    ] = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run, from its last checkpoint.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run that is there.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the resolved recipe and what it would cost; write nothing."),
    ] = False,
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
    with own_group() as group:
        if group and group.rank:
            follow(group)
            return
        if resume and force:
            raise RunError("--resume --force", expected="one of them", got="both",
                           next_step="--resume continues the run that is there, --force replaces it")  # fmt: skip
        name, recipe = run_recipe(arguments, run_dir, device, resume)
        if dry_run:
            number = num_workers_of(workers, recipe, group, run=None)
            show_dry_run(name, recipe, as_json, number)
            return
        path = run_path(name, run_dir, resume) if resume else None
        number = num_workers_of(workers, recipe, group, run=path)
        if number > 1 and group is None:
            raise typer.Exit(run_in_workers(number))
        path = path or run_path(name, run_dir, resume)
        report = train_to_report(name, recipe, path, resume=resume, force=force, group=group)
        if as_json:
            console.result_json(report)
        else:
            show_report(report, recipe, path)


def follow(group: WorkerGroup) -> None:
    """Be a worker other than 0."""
    from mamlcli.follower import follow_run

    follow_run(group)


def run_recipe(
    arguments: list[str] | None, run_dir: Path | None, device: str | None, resume: bool
) -> tuple[str, Recipe]:
    """Return the name and the recipe of the run: of the one that goes on, where no other is named."""
    if resume and run_dir is not None and not arguments and device is None:
        from mamlcli.rundir import RunDirectory

        run = RunDirectory.open(run_dir)
        return run.name, run.recipe
    return recipe_and_overrides(arguments, device)


def run_path(name: str, run_dir: Path | None, resume: bool) -> Path:
    """Return where a run goes: where asked, the newest one to resume, or the next free number."""
    from mamlcli.rundir import newest_run_path, next_run_path

    if run_dir is not None:
        return run_dir
    if not resume:
        return next_run_path(RUNS, name)
    newest = newest_run_path(RUNS, name)
    if newest is None:
        raise RunError(f"{RUNS}/{name}-*", expected="a run to resume", got="none",
                       next_step=f"Run: mamlcli train {name}, or name it with --run-dir")  # fmt: skip
    return newest


def train_to_report(
    name: str, recipe: Recipe, path: Path, *, resume: bool, force: bool, group: WorkerGroup | None = None
) -> dict[str, Any]:
    """Build everything, then make or open the run directory, train, and return the evaluation."""
    from mamlcli.build import build
    from mamlcli.distributed import ALONE
    from mamlcli.event_log import check_event_log
    from mamlcli.manifest import recorded_workers
    from mamlcli.placement import resolve_device
    from mamlcli.rundir import RunDirectory, check_free, remove_run
    from mamlcli.session import PlannedRun, finished_result, result_of, train_runs
    from mamlcli.training_functions import splits_of_training

    if resume:
        run = RunDirectory.open(path)
        run.check_recipe(recipe)
        if (done := finished_result(run)) is not None:
            console.note(f"{path} is already done; this is its result.")
            return done.report
    elif not force:
        check_free(path)
    warn_about_selection(recipe)
    check_event_log(recipe.logging)
    group = group or ALONE
    group.use_device(resolve_device(recipe.execution.device))
    experiment = build(recipe, splits=splits_of_training(recipe))
    if not resume:
        if force:
            remove_run(path)
        run = RunDirectory.create(path, recipe, name)
    elif (recorded := recorded_workers(run)) != group.num_workers:
        console.note(f"workers: {group.num_workers} now, {recorded} before; sums in another order round differently")
    argv = ["mamlcli", *sys.argv[1:]] if group.place else sys.argv  # as it was typed, not as workers are started
    with ProgressDisplay(recipe, resume) as display:
        [end] = train_runs([PlannedRun(run, experiment, argv, display.callbacks())], group=group)
        return result_of(end).report


class ProgressDisplay:
    """Turns a run's callbacks into what the terminal shows."""

    def __init__(self, recipe: Recipe, resume: bool) -> None:
        self._recipe = recipe
        self._resume = resume
        self._training: object | None = None

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def callbacks(self) -> Progress:
        """Return what the session calls as the run goes on."""
        from mamlcli.session import Progress

        return Progress(on_start=self._start, on_record=self._record, on_evaluation=self._evaluation)

    def _start(self, experiment: Experiment, run: RunDirectory, iteration: int) -> None:
        from mamlcli.cli.progress import TrainingProgress

        manifest = run.manifest
        number = manifest["execution"]["workers"]
        workers = f", {number} workers" if number > 1 else ""
        console.note(
            f"{run.name} on {manifest['device']}{workers}: {manifest['num_parameters']:,} parameters, run in {run.path}"
        )
        if self._resume:
            begin = f"from iteration {iteration}" if iteration else "from the start: the run has no checkpoint yet"
            console.note(f"resuming {begin}")
        self._training = TrainingProgress(self._recipe.outer.iterations, iteration).__enter__()

    def _record(self, record: object) -> None:
        self._training.show(record)  # type: ignore[union-attr]

    def _evaluation(self, num_tasks: int) -> None:
        self._stop()
        split = self._recipe.evaluation.split
        console.note(f"adapting to {num_tasks} {split} tasks")

    def _stop(self) -> None:
        if self._training is not None:
            self._training.__exit__(None, None, None)  # type: ignore[attr-defined]
            self._training = None


def show_report(report: dict[str, Any], recipe: Recipe, path: Path) -> None:
    """Show the adaptation curve, what it means, and what to try next."""
    from mamlcli.tables import curve_line, curve_table, verdict

    console.result(curve_table(report))
    console.result(curve_line(report))
    console.result(verdict(report))
    console.note(f"\nThe picture of this curve: {path}/curve.png (and .svg). Next:")
    for command, purpose in next_commands(report, recipe, path):
        console.note(f"  {command}   [dim]# {purpose}[/dim]")


def next_commands(report: dict[str, Any], recipe: Recipe, path: Path) -> list[tuple[str, str]]:
    """Return commands worth trying after a run, each with its purpose."""
    name, depth = report["recipe"], recipe.model.depth
    steps = 2 * report["protocol"]["inner_steps"]
    commands = [(f"mamlcli adapt {path} --steps {steps}", "more inner steps than in training")]
    if recipe.model.kind == "linear":
        commands.append((f"mamlcli train {name} model.depth={depth + 1}", "the same function class, one layer more"))
    else:
        commands.append((f"mamlcli train {name} inner.algorithm=anil", "adapt the head alone"))
        if depth > 1:
            commands.append((f"mamlcli train {name} model.depth=1", "a shallow network: the paper's question"))
    return [*commands, ("mamlcli recipes ls", "other data and settings")]


def show_dry_run(name: str, recipe: Recipe, as_json: bool, num_workers: int) -> None:
    """Show the resolved recipe and its measured cost."""
    from mamlcli.dry_run import dry_run
    from mamlcli.recipe_files import recipe_to_tree, recipe_to_yaml
    from mamlcli.tables import cost_text

    if num_workers > 1:
        console.note(f"measured in one process; the run shares the tasks among {num_workers}")
    cost = dry_run(recipe).to_json()
    if as_json:
        console.result_json({"recipe": recipe_to_tree(recipe), "cost": cost})
        return
    console.result_text(f"# {name}, resolved\n{recipe_to_yaml(recipe)}")
    console.result(cost_text(cost, recipe.outer.iterations))
