"""A study is run to its end here: its missing cells become jobs, and their ends a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mamlcli.common.errors import NonFiniteError
from mamlcli.common.files import atomic_write
from mamlcli.common.machine import num_cores
from mamlcli.common.processes.jobs import Job, Outcome
from mamlcli.common.processes.pool import Executor, run_jobs
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import RunReport
from mamlcli.runs.search import is_run
from mamlcli.studies.orphans import wait_for_orphans
from mamlcli.studies.sweeps.cells import (
    PlannedCell,
    can_share,
    cell_outcomes,
    finished_report,
    group_sizes,
    run_cells,
)
from mamlcli.studies.sweeps.collection import collect, final_scores
from mamlcli.studies.sweeps.finished import can_read_extras, checked_cell, finished_cell
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.scores import StudyScores
from mamlcli.studies.sweeps.sweep import TASKS_OF_EACH_SEED, Cell, Sweep, cells_of
from mamlcli.training.given import given_now
from mamlcli.training.placement import resolve_device


@dataclass(frozen=True)
class CellEnd:
    """A cell end says how a cell ended, for a line of progress.

    Attributes:
        label: the cell in words.
        status: "done", "skipped" (it was done before), "failed", "diverged" or "interrupted".
        num_ended, num_total: cells that have ended, this one included, and all.
        scores: of its run after adaptation; None unless done.
        reason: why it failed.
        wall_s: seconds it took; 0 if skipped.
        where: host and GPU that it ran on; empty where that goes without saying.
    """

    label: str
    status: str
    num_ended: int
    num_total: int
    scores: StudyScores | None = None
    reason: str = ""
    wall_s: float = 0.0
    where: str = ""


def default_jobs(recipe: Recipe, num_cells: int) -> int:
    """Return the processes of a sweep where none are asked for: one on a GPU, else one for each core."""
    if resolve_device(recipe.execution.device).type != "cpu":
        return 1
    return max(1, min(num_cores(), num_cells))


def run_sweep(
    sweep: Sweep,
    path: Path,
    *,
    executor: Executor,
    argv: Sequence[str],
    extra_jobs: Sequence[Job] = (),
    is_wanted: Callable[[Cell], bool] = lambda cell: True,
    deadline: float | None = None,
    on_start: Callable[[str, int], None] = lambda name, pid: None,
    on_end: Callable[[CellEnd], None] = lambda end: None,
) -> StudyResult:
    """Run what is missing of a study and collect its result, which names the cells and jobs that failed.

    Args:
        sweep: checked by `check_sweep`.
        path: its folder, made or checked by `open_study`.
        executor: runs what is missing.
        argv: the command, for the manifests.
        extra_jobs: further work for the same processes, begun before the cells.
        is_wanted: which cells are trained if they are not done; the others are collected where they are done.
        deadline: no cell begins after it, on the clock of `time.monotonic`; the same call later does the rest.
        on_start: called with a cell's name (or a job's key) and the id of the process that works on it.
        on_end: called when a cell ends.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the cells at work have saved their state.
        RunError: another process works on the folder.
    """
    cells = cells_of(sweep)
    wanted = [cell for cell in cells if is_wanted(cell)]
    labels = {cell.name: cell.label for cell in wanted} | {job.key: job.key.replace("/", ": ") for job in extra_jobs}
    ends = _Ends(sweep, path / "cells", labels, on_end)
    with RunDirectory(path).lock():
        wait_for_orphans(path / "cells" / cell.name for cell in wanted)
        missing = [cell for cell in wanted if not ends.tell_if_done_before(cell)]
        groups = cell_groups(cells, missing)
        names = {group[0].name: [cell.name for cell in group] for group in groups}
        jobs = [cell_job(sweep, path, group, argv=argv, num_threads=executor.num_threads) for group in groups]

        def start(job: Job, pid: int) -> None:
            for name in names.get(job.key, [job.key]):
                on_start(name, pid)

        run_jobs(
            [*extra_jobs, *jobs],  # the long ones first, so that no process waits for them at the end
            executor=executor,
            deadline=deadline,
            on_start=start,
            on_end=lambda outcome: ends.tell_of_job(outcome, names.get(outcome.key, [outcome.key])),
        )
        return _result(sweep, path, cells, ends.outcomes, labels)


class _Ends:
    """Tells how each cell of a study ends, and keeps the outcomes by the names of the cells."""

    def __init__(
        self, sweep: Sweep, folder: Path, labels: Mapping[str, str], on_end: Callable[[CellEnd], None]
    ) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._sweep, self._folder, self._labels, self._on_end = sweep, folder, labels, on_end
        self._num_ended = 0

    def tell_if_done_before(self, cell: Cell) -> bool:
        """Tell that a cell is skipped, if it was done before; return whether it was."""
        report = _done_before(self._sweep, self._folder / cell.name)
        if report is not None:
            self._tell(cell.name, "skipped", final_scores(report))
        return report is not None

    def tell_of_job(self, outcome: Outcome, names: Sequence[str]) -> None:
        """Tell how each cell of a job ended."""

        def is_done(name: str) -> bool:
            return _done_before(self._sweep, self._folder / name) is not None

        for of_cell in cell_outcomes(outcome, names, is_done=is_done):
            self.outcomes[of_cell.key] = of_cell
            self._tell_of_cell(of_cell)

    def _tell_of_cell(self, outcome: Outcome) -> None:
        """Tell how a cell ended; the traceback of an error is kept in its folder."""
        run = RunDirectory(self._folder / outcome.key)
        is_done, log = outcome.status == "done", run.path / "error.log"
        if is_done:
            log.unlink(missing_ok=True)  # of an earlier attempt
        elif outcome.details and run.path.is_dir():
            atomic_write(log, outcome.details.encode())
        scores = final_scores(run.read_report()) if is_done and run.has_report else None
        status = "diverged" if outcome.error == NonFiniteError.__name__ else outcome.status
        reason = outcome.reason if outcome.status == "failed" else ""
        self._tell(outcome.key, status, scores, reason, outcome)

    def _tell(
        self, name: str, status: str, scores: StudyScores | None, reason: str = "", outcome: Outcome | None = None
    ) -> None:
        self._num_ended += 1
        wall_s, where = (0.0, "") if outcome is None else (outcome.wall_s, outcome.where)
        label, num_total = self._labels[name], len(self._labels)
        self._on_end(CellEnd(label, status, self._num_ended, num_total, scores, reason, wall_s, where))


def _done_before(sweep: Sweep, folder: Path) -> RunReport | None:
    """Return the report of a cell that needs no more work."""
    if not is_run(folder):
        return None
    return finished_report(RunDirectory(folder)) if can_read_extras(sweep, folder) else None


def cell_groups(cells: Sequence[Cell], missing: Sequence[Cell]) -> list[list[Cell]]:
    """Return which missing cells share a job: seeds of one value, where the model is so small that it pays.

    Which seeds are together depends on all cells of the study, not on those that are missing. In the order of the first
    cell of each.
    """
    by_value: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        by_value.setdefault((cell.value.label, cell.inner_lr), []).append(cell)
    names = [cell.name for cell in missing]
    groups = []
    for seeds in by_value.values():
        wanted = [cell.name in names for cell in seeds]
        is_shared = any(wanted) and len(seeds) > 1 and can_share(seeds[0].recipe)
        sizes = group_sizes(len(seeds)) if is_shared else [1] * len(seeds)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        for start, size in zip(starts, sizes, strict=True):
            groups.append([cell for cell in seeds[start : start + size] if cell.name in names])
    return sorted(filter(None, groups), key=lambda group: names.index(group[0].name))


def cell_job(sweep: Sweep, path: Path, cells: Sequence[Cell], *, argv: Sequence[str], num_threads: int) -> Job:
    """Return the job that trains some cells together; its key is the name of the first."""
    given = given_now()
    content = given.pickled() if given.parts else b""
    planned = tuple(
        PlannedCell(
            name=cell.name,
            path=path / "cells" / cell.name,
            recipe_name=sweep.recipe_name,
            recipe=cell.recipe,
            argv=tuple(argv),
            num_threads=num_threads,
            started_from=sweep.started_from,
            with_collapse=sweep.collapses(cell.recipe),
            control_tasks=sweep.control_tasks,
            given=content,
        )
        for cell in cells
    )
    # A training that diverged does so again, bit for bit.
    return Job(planned[0].name, run_cells, planned, hopeless=[NonFiniteError.__name__])


def _result(
    sweep: Sweep, path: Path, cells: Sequence[Cell], outcomes: Mapping[str, Outcome], labels: Mapping[str, str]
) -> StudyResult:
    """Read the finished runs, choose inner learning rates where asked, and return the result of the study."""
    failed = {key: outcome for key, outcome in outcomes.items() if outcome.status == "failed"}
    diverged = {key for key, outcome in failed.items() if outcome.error == NonFiniteError.__name__}
    # Of several rates one that diverges is not chosen, and no failure.
    failures = [(labels[key], failed[key].reason) for key in failed if not (sweep.inner_lrs and key in diverged)]
    finished = []
    for value in sweep.values:
        of_value = [cell for cell in cells if cell.value is value]
        cell = finished_cell(sweep, value, of_value, path, failed=failed, diverged=diverged)
        finished.append(checked_cell(cell, value.label))
        failures += finished[-1].problems
        if finished[-1].has_diverged:
            failures.append((value.label, f"every inner learning rate diverged: {sweep.inner_lrs}"))
    collected = collect(finished, sweep.pairs, num_seeds=sweep.num_seeds)
    return StudyResult(
        study=sweep.study,
        axis=sweep.axis,
        recipe=sweep.recipe_name,
        seeds=sweep.seeds,
        directory=str(path),
        inner_lr_is_chosen=bool(sweep.inner_lrs),
        started_from=str(sweep.started_from) if sweep.started_from else None,
        cells=collected.cells,
        comparisons=collected.comparisons,
        protocol=collected.protocol,
        references=collected.references,
        chance_accuracy=collected.chance_accuracy,
        failures=tuple(failures),
        tasks=None if sweep.has_common_tasks else TASKS_OF_EACH_SEED,
        versions=collected.versions,
    )
