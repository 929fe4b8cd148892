"""A process runs cells of a study here: it makes or continues their run directories, trains, scores, collapses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mamlcli.common.errors import Interrupted, NonFiniteError, RunError
from mamlcli.common.processes.jobs import IsStopped, Outcome, failure
from mamlcli.engine.sizes import activation_size, count_parameters
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import SyntheticKeys
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.going_on import recipe_changes
from mamlcli.runs.own_files import check_no_link
from mamlcli.runs.report import RunReport
from mamlcli.runs.search import is_run
from mamlcli.studies.orphans import wait_for_orphans
from mamlcli.studies.sweeps.cell_result import COLLAPSE
from mamlcli.studies.sweeps.collapsed import collapse_record
from mamlcli.studies.sweeps.collapsed_control import write_control
from mamlcli.studies.sweeps.from_trained import write_start
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.given import Given, parts_given
from mamlcli.training.planned import PlannedRun
from mamlcli.training.run import train_runs
from mamlcli.training.scoring import finished_result


@dataclass(frozen=True)
class PlannedCell:
    """A planned cell is one cell of a study as it is handed to a process, pickled.

    Attributes:
        name: of the cell, unique in its study.
        path: its run directory.
        recipe_name: what the run notes as the name of its recipe.
        recipe: resolved.
        argv: the command, for the manifest.
        num_threads: that the process may use.
        started_from: a trained run whose weights it starts from, with linear layers appended; None for none.
        with_collapse: whether its adapted stacks are compared with their collapsed models.
        control_tasks: where its stack is also collapsed before it adapts, see `collapsed_control`: the
            meta-validation tasks that each inner learning rate is tried on; 0 for no control.
        given: the parts that are given from Python, see `Given.pickled`; empty for none.
    """

    name: str
    path: Path
    recipe_name: str
    recipe: Recipe
    argv: tuple[str, ...]
    num_threads: int
    started_from: Path | None = None
    with_collapse: bool = False
    control_tasks: int = 0
    given: bytes = b""


@dataclass(frozen=True)
class CellFailure:
    """A cell failure says why one of several cells of a job failed, in the fields of a pool's `Outcome`.

    Attributes:
        reason: in words.
        error: the name of the exception's class.
        details: the traceback, for errors that are not the user's.
    """

    reason: str
    error: str
    details: str = ""


def run_cells(cells: tuple[PlannedCell, ...], is_stopped: IsStopped) -> dict[str, CellFailure]:
    """Train and score cells in their run directories, each from where it was cut if it was.

    Several cells differ in their seed alone and are trained together. One of them that fails is tried again alone,
    as the pool tries a job again, unless its training diverged.

    Returns:
        The failures, by the names of the cells.

    Raises:
        Interrupted: told to stop; every cell is saved. What the only cell ended by, if it failed.
    """
    failures: dict[str, CellFailure] = {}
    # Where a machine was lost, its process may still be saving the cell.
    wait_for_orphans(cell.path for cell in cells)
    for cell, error in _train_cells(cells, is_stopped):
        if len(cells) > 1 and not isinstance(error, NonFiniteError):
            try:
                run_cells((cell,), is_stopped)
                continue
            except Interrupted:
                raise
            except Exception as last:
                error = last
        if len(cells) == 1:
            raise error
        failures[cell.name] = CellFailure(**failure(error))
    return failures


def _train_cells(cells: Sequence[PlannedCell], is_stopped: IsStopped) -> list[tuple[PlannedCell, BaseException]]:
    """Train what is not done of the cells, all at once; return those that failed.

    Raises:
        Interrupted: told to stop.
    """
    with parts_given(Given.from_pickled(cells[0].given)):
        return _train_opened(cells, [_open_cell(cell) for cell in cells], is_stopped)


def _train_opened(
    cells: Sequence[PlannedCell], opened: Sequence[RunDirectory], is_stopped: IsStopped
) -> list[tuple[PlannedCell, BaseException]]:
    """Train what is not done of the cells in their directories; see `_train_cells`."""
    # A cell that goes on may compute elsewhere now, and find its data elsewhere.
    first = build(cells[0].recipe, splits=splits_of_training(cells[0].recipe))
    first.use_threads()
    # Tasks and network are the same for all seeds.
    experiments = [replace(first, recipe=cell.recipe) for cell in cells]
    planned: dict[int, PlannedRun] = {}
    for index, (cell, run) in enumerate(zip(cells, opened, strict=True)):
        if finished_report(run) is None:
            if cell.started_from:
                write_start(run, experiments[index], RunDirectory.open(cell.started_from))
            planned[index] = PlannedRun(run, experiments[index], list(cell.argv), with_probe=False)
    ends = train_runs(list(planned.values()), is_stopped=is_stopped)
    errors = {index: end for index, end in zip(planned, ends, strict=True) if isinstance(end, BaseException)}
    for error in errors.values():
        if isinstance(error, Interrupted | KeyboardInterrupt):
            raise Interrupted("interrupted") from error
    for index, cell in enumerate(cells):
        if cell.with_collapse and index not in errors:
            opened[index].write_json(COLLAPSE, collapse_record(opened[index], experiments[index]).to_json())
        if cell.control_tasks and index not in errors:
            write_control(opened[index], cell.control_tasks)
    return [(cells[index], error) for index, error in errors.items()]


def _open_cell(cell: PlannedCell) -> RunDirectory:
    """Open the cell's run directory, or make it."""
    # Before building: the recipe, or a model too small for threads, may set another number.
    torch.set_num_threads(cell.num_threads)
    check_no_link(cell.path)
    if is_run(cell.path):
        run = RunDirectory.open(cell.path)
        recipe_changes(run, cell.recipe)
        return run
    return RunDirectory.create(cell.path, cell.recipe, cell.recipe_name)


# With fewer activations and parameters in a meta-batch, several runs as one batch take less time than one by one.
_MOST_NUMBERS_SHARED = 500_000


def can_share(recipe: Recipe) -> bool:
    """Return whether runs of this recipe are so small that training several at once pays.

    That is so for synthetic tasks on the explicit path of the CPU, where the activations and parameters of a
    meta-batch are few. Depends on shapes alone.
    """
    if not isinstance(recipe.tasks, SyntheticKeys) or recipe.execution.compile is True:
        return False
    if recipe.execution.device not in ("auto", "cpu"):  # which this machine need not have
        return False
    experiment = build(recipe, splits=("train",))
    if experiment.device.type != "cpu":
        return False
    how = experiment.execution(num_tasks=recipe.outer.tasks, num_steps=recipe.inner.steps)
    num_parameters = count_parameters(dict(experiment.network.named_parameters()))
    numbers = activation_size(experiment.network) * recipe.tasks.shots + num_parameters
    return how.path == "explicit" and numbers * recipe.outer.tasks < _MOST_NUMBERS_SHARED


# Seeds of one value that are trained together, at most: more of them save little, and leave other processes idle.
MOST_TOGETHER = 4


def group_sizes(num_runs: int) -> list[int]:
    """Return how many runs of one axis value are trained together in each job: at most 4, as evenly as can be.

    The number of processes has no part in it: runs that are trained together differ by rounding from those trained
    alone, and a study is to have the same results wherever its cells are trained.
    """
    num_jobs = math.ceil(num_runs / MOST_TOGETHER)
    smaller, larger = divmod(num_runs, num_jobs)
    return [smaller + (job < larger) for job in range(num_jobs)]


def cell_outcomes(outcome: Outcome, names: Sequence[str], *, is_done: Callable[[str], bool]) -> list[Outcome]:
    """Return the outcome of each cell of a job; each took its share of the time.

    Args:
        outcome: of the job.
        names: of its cells.
        is_done: whether a cell, by its name, is done: some are, though the job ended before its end.
    """
    if len(names) == 1:
        return [replace(outcome, key=names[0])]
    failures: dict[str, CellFailure] = outcome.value if isinstance(outcome.value, dict) else {}
    wall_s = outcome.wall_s / len(names)
    outcomes = []
    for name in names:
        of_cell = replace(outcome, key=name, value=None, wall_s=wall_s)
        if name in failures:
            of_cell = replace(of_cell, status="failed", **vars(failures[name]))
        elif of_cell.status != "done" and is_done(name):
            of_cell = Outcome(name, "done", attempts=outcome.attempts, wall_s=wall_s)
        outcomes.append(of_cell)
    return outcomes


def finished_report(run: RunDirectory) -> RunReport | None:
    """Return the result of a run that is done, else None."""
    try:
        return finished_result(run)
    except RunError:  # a damaged evaluation.json: it is written again from the checkpoint
        return None
