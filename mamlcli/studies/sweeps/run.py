"""A study run to its end: which cells are left, their jobs, how they ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamlcli.common.errors import NonFiniteError
from mamlcli.common.files import atomic_write
from mamlcli.common.machine import num_cores, threads_of
from mamlcli.common.processes.pool import Job, Outcome, run_jobs
from mamlcli.recipe.files import recipe_to_tree
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.cell_result import Collapse, CollapseRecord, RateCandidate
from mamlcli.studies.sweeps.cells import (
    PlannedCell,
    can_share,
    cell_outcomes,
    finished_report,
    group_sizes,
    run_cells,
)
from mamlcli.studies.sweeps.collection import FinishedCell, collect, final_scores, read_report
from mamlcli.studies.sweeps.rates import choose_inner_lr, rate_candidate, validation_metric
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.scores import Scores
from mamlcli.studies.sweeps.sweep import Cell, Sweep, cells_of
from mamlcli.training.placement import resolve_device


@dataclass(frozen=True)
class CellEnd:
    """How a cell ended, for a line of progress.

    Attributes:
        label: the cell in words.
        status: "done", "skipped" (it was done before), "failed", "diverged" or "interrupted".
        num_ended, num_total: cells that have ended, this one included, and all.
        scores: of its run after adaptation; None unless done.
        reason: why it failed.
        wall_s: seconds it took; 0 if skipped.
    """

    label: str
    status: str
    num_ended: int
    num_total: int
    scores: Scores | None = None
    reason: str = ""
    wall_s: float = 0.0


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep came to.

    Attributes:
        result: of the cells that are done.
        failures: (cell or job in words, reason) of those that failed.
    """

    result: StudyResult
    failures: list[tuple[str, str]] = field(default_factory=list)


def default_jobs(recipe: Recipe, num_cells: int) -> int:
    """Return the processes of a sweep where none are asked for: one on CUDA, else one for each core."""
    if resolve_device(recipe.execution.device).type == "cuda":
        return 1
    return max(1, min(num_cores(), num_cells))


def run_sweep(
    sweep: Sweep,
    path: Path,
    *,
    num_workers: int,
    argv: Sequence[str],
    extra_jobs: Sequence[Job] = (),
    on_start: Callable[[str, int], None] | None = None,
    on_end: Callable[[CellEnd], None] | None = None,
) -> SweepOutcome:
    """Run what is missing of a study and collect its result.

    Args:
        sweep: checked by `check_sweep`.
        path: its folder, made or checked by `open_study`.
        num_workers: processes.
        argv: the command, for the manifests.
        extra_jobs: further work for the same processes, after the cells.
        on_start: called with a cell's name (or a job's key) and the id of the process that works on it.
        on_end: called when a cell ends.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the cells at work have saved their state.
        RunError: another process works on the folder.
    """
    cells = cells_of(sweep)
    labels = {cell.name: cell.label for cell in cells} | {job.key: job.key.replace("/", ": ") for job in extra_jobs}
    names_of: dict[str, list[str]] = {}  # the cells of each job, by its key
    num_ended = 0

    def tell(name: str, status: str, *, scores: Scores | None, reason: str = "", wall_s: float = 0.0) -> None:
        nonlocal num_ended
        num_ended += 1
        if on_end:
            on_end(CellEnd(labels[name], status, num_ended, len(labels), scores, reason, wall_s))

    def is_done(name: str) -> bool:
        return _done_before(sweep, path / "cells" / name) is not None

    def parts_of(outcome: Outcome) -> list[Outcome]:
        return cell_outcomes(outcome, names_of.get(outcome.key, [outcome.key]), is_done=is_done)

    def end(outcome: Outcome) -> None:
        for part in parts_of(outcome):
            end_one(part)

    def end_one(outcome: Outcome) -> None:
        folder = path / "cells" / outcome.key
        if outcome.status == "done":
            (folder / "error.log").unlink(missing_ok=True)  # of an earlier attempt
        elif outcome.details and folder.is_dir():
            atomic_write(folder / "error.log", outcome.details.encode())
        is_run = outcome.status == "done" and (folder / "evaluation.json").is_file()
        scores = final_scores(read_report(RunDirectory(folder))) if is_run else None
        status = "diverged" if outcome.error == NonFiniteError.__name__ else outcome.status
        reason = outcome.reason if outcome.status == "failed" else ""
        tell(outcome.key, status, scores=scores, reason=reason, wall_s=outcome.wall_s)

    with RunDirectory(path).lock():
        missing = []
        for cell in cells:
            if (report := _done_before(sweep, path / "cells" / cell.name)) is not None:
                tell(cell.name, "skipped", scores=final_scores(report))
            else:
                missing.append(cell)
        groups = cell_groups(missing, num_workers)
        num_threads = threads_of(num_workers)
        jobs = [cell_job(sweep, path, group, argv=argv, num_threads=num_threads) for group in groups]
        names_of |= {group[0].name: [cell.name for cell in group] for group in groups}

        def start(job: Job, pid: int) -> None:
            for name in names_of.get(job.key, [job.key]):
                on_start(name, pid)  # type: ignore[misc]

        outcomes = run_jobs(
            [*jobs, *extra_jobs],
            num_processes=num_workers,
            hopeless=[NonFiniteError.__name__],  # a training that diverged does so again, bit for bit
            on_start=start if on_start else None,
            on_end=end,
        )
        parts = [part for outcome in outcomes.values() for part in parts_of(outcome)]
        by_cell = {part.key: part for part in parts}
        return _outcome(sweep, path, cells, by_cell, labels)


def _done_before(sweep: Sweep, folder: Path) -> Mapping[str, Any] | None:
    """Return the report of a cell that needs no more work."""
    if not (folder / "manifest.json").is_file() or not (folder / "recipe.yaml").is_file():
        return None
    if sweep.with_collapse and not (folder / "collapse.json").is_file():
        return None
    return finished_report(RunDirectory(folder))


def cell_groups(cells: Sequence[Cell], num_workers: int) -> list[list[Cell]]:
    """Return which cells share a job: the seeds of one value, where the model is so small that it pays.

    In the order of the first cell of each.
    """
    by_value: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        by_value.setdefault((cell.value.label, cell.inner_lr), []).append(cell)
    small = [key for key, own in by_value.items() if len(own) > 1 and can_share(own[0].recipe)]
    groups = []
    for key, own in by_value.items():
        sizes = group_sizes(len(own), len(small), num_workers) if key in small else [1] * len(own)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        groups += [own[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return sorted(groups, key=lambda group: cells.index(group[0]))


def _outcome(
    sweep: Sweep, path: Path, cells: list[Cell], outcomes: dict[str, Outcome], labels: dict[str, str]
) -> SweepOutcome:
    """Read the finished runs, choose inner learning rates where asked, and collect."""
    failed = {key: outcome for key, outcome in outcomes.items() if outcome.status == "failed"}
    diverged = {key for key, outcome in failed.items() if outcome.error == NonFiniteError.__name__}
    failures = [
        (labels[key], outcome.reason) for key, outcome in failed.items() if not (sweep.inner_lrs and key in diverged)
    ]
    finished = []
    for value in sweep.values:
        own = [cell for cell in cells if cell.value is value]
        candidates: tuple[RateCandidate, ...] = ()
        rate = sweep.recipe.inner.lr
        if sweep.inner_lrs:
            candidates = tuple(
                rate_candidate(
                    rate,
                    [RunDirectory(path / "cells" / cell.name) for cell in own if cell.inner_lr == rate],
                    metric=validation_metric(sweep.recipe),
                    failed=failed,
                    diverged=diverged,
                )
                for rate in sweep.inner_lrs
            )
            chosen = choose_inner_lr(candidates)
            if any(candidate.status == "failed" for candidate in candidates):
                own = []  # a choice among those that happen to be left would be another choice
            elif chosen is None:
                failures.append((value.label, f"every inner learning rate diverged: {sweep.inner_lrs}"))
                own = []
            rate = rate if chosen is None else chosen
        chosen_cells = [cell for cell in own if cell.inner_lr == rate and cell.name not in failed]
        folders = {cell.seed: path / "cells" / cell.name for cell in chosen_cells}
        runs = {seed: RunDirectory(folder) for seed, folder in folders.items() if _is_finished(sweep, folder)}
        collapse = _collapse_summary(runs) if sweep.with_collapse and runs else None
        finished.append(FinishedCell(value.value, rate, runs, candidates, collapse))
    collected = collect(finished, sweep.pairs, num_seeds=sweep.num_seeds)
    result = StudyResult(
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
    )
    return SweepOutcome(result, failures)


def _is_finished(sweep: Sweep, folder: Path) -> bool:
    names = ["evaluation.json", *(["collapse.json"] if sweep.with_collapse else [])]
    return all((folder / name).is_file() for name in names)


def _collapse_summary(runs: Mapping[int, RunDirectory]) -> Collapse:
    records = [CollapseRecord.from_json(json.loads((run.path / "collapse.json").read_text())) for run in runs.values()]
    worst = max(records, key=lambda record: record.largest_relative_difference)
    return Collapse(records[0].num_parameters_collapsed, worst)


def cell_job(sweep: Sweep, path: Path, cells: Sequence[Cell], *, argv: Sequence[str], num_threads: int) -> Job:
    """Return the job that trains some cells together; its key is the name of the first."""
    planned = tuple(
        PlannedCell(
            name=cell.name,
            path=path / "cells" / cell.name,
            recipe_name=sweep.recipe_name,
            recipe=recipe_to_tree(cell.recipe),
            argv=tuple(argv),
            num_threads=num_threads,
            started_from=Path(sweep.started_from) if sweep.started_from else None,
            with_collapse=sweep.with_collapse,
        )
        for cell in cells
    )
    return Job(planned[0].name, run_cells, planned)
