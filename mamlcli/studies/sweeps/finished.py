"""Finds the finished runs of each axis value, of the inner learning rate that `rates` chooses."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.commands import command
from mamlcli.common.errors import RunError
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.scores_table import SCORE_COLUMNS
from mamlcli.studies.records import kept_record, read_record
from mamlcli.studies.sweeps.cell_result import COLLAPSE, Collapse, CollapseRecord, RateCandidate
from mamlcli.studies.sweeps.collapsed_control import has_control, is_control_kept
from mamlcli.studies.sweeps.rates import choose_inner_lr, rate_candidate, validation_metric
from mamlcli.studies.sweeps.scores import Value
from mamlcli.studies.sweeps.sweep import AxisValue, Cell, Sweep

# The column of tasks.csv that holds a metric.
COLUMN_OF = {"loss": "query_loss", "accuracy": "query_accuracy"}

# A task whose query loss grows by more than this factor has diverged: a good step lowers it, a poor one doubles it.
DIVERGED_FACTOR = 10.0

# Float32 means of tasks of very different losses agree with those of the nine digits of tasks.csv to this.
_DIGITS_OF_SCORES = 1e-5


@dataclass(frozen=True)
class FinishedCell:
    """A finished cell is an axis value with its finished runs.

    Attributes:
        value: of the axis.
        inner_lr: the rate of these runs.
        runs: their directories by seed; empty where none has finished.
        candidates: the inner learning rates that theirs was chosen from; empty where there was no choice.
        collapse: of their linear layers; None where the study does not collapse them.
        diverged_tasks: share of the tasks of all runs that diverged.
        problems: (cell in words, why) of runs that are left out because their files do not agree.
    """

    value: Value
    inner_lr: float
    runs: Mapping[int, RunDirectory]
    candidates: tuple[RateCandidate, ...] = ()
    collapse: Collapse | None = None
    diverged_tasks: float = 0.0
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def has_diverged(self) -> bool:
        """Whether the value has no run because every inner learning rate diverged."""
        return bool(self.candidates) and all(candidate.status == "diverged" for candidate in self.candidates)


def finished_cell(
    sweep: Sweep,
    value: AxisValue,
    cells: Sequence[Cell],
    path: Path,
    *,
    failed: Collection[str],
    diverged: Collection[str],
) -> FinishedCell:
    """Return what has finished of an axis value, at the inner learning rate that is chosen where there are several.

    Args:
        sweep: the study.
        value: of its axis.
        cells: those of the value, each seed at each rate.
        path: the study's folder.
        failed: names of the cells that failed, for whatever reason.
        diverged: names of those that diverged.
    """
    candidates = _candidates(sweep, cells, path, failed, diverged)
    rate, usable = cells[0].inner_lr, [cell for cell in cells if cell.name not in failed]
    if candidates:
        chosen = choose_inner_lr(candidates)
        if chosen is None or any(candidate.status == "failed" for candidate in candidates):
            usable = []  # a choice among those that happen to be left would be another choice
        rate = rate if chosen is None else chosen
    folders = {cell.seed: path / "cells" / cell.name for cell in usable if cell.inner_lr == rate}
    runs = {seed: RunDirectory(folder) for seed, folder in folders.items() if has_result(sweep, folder)}
    collapse = _collapse(runs) if any(sweep.collapses(cell.recipe) for cell in cells) and runs else None
    return FinishedCell(value.value, rate, runs, candidates, collapse)


def checked_cell(cell: FinishedCell, label: str) -> FinishedCell:
    """Return a finished cell without the runs whose files do not agree, and with its share of diverged tasks.

    Args:
        cell: what has finished of an axis value.
        label: the value in words.
    """
    runs: dict[int, RunDirectory] = {}
    shares, problems = [], []
    for seed, run in cell.runs.items():
        try:
            shares.append(diverged_share(checked_scores(run)))
        except RunError as error:
            problems.append((f"{label}, seed {seed}", str(error)))
        else:
            runs[seed] = run
    share = math.fsum(shares) / len(shares) if shares else 0.0
    return replace(cell, runs=runs, diverged_tasks=share, problems=tuple(problems))


def checked_scores(run: RunDirectory) -> NDArray[np.float64]:
    """Return the query losses of a run's tasks at every inner step, [num_tasks, num_inner_steps + 1].

    Raises:
        RunError: evaluation.json has not the means of tasks.csv: one of them was changed.
    """
    scores, final = run.read_scores(), run.read_report().final
    for metric, column in COLUMN_OF.items():
        reported = final.of(metric)
        mean = float(scores[:, -1, SCORE_COLUMNS.index(column)].mean())
        # tasks.csv has nine digits; what overflowed or is no number has no mean in evaluation.json.
        if reported is None or reported.mean is None or not math.isfinite(mean):
            continue
        if not math.isclose(reported.mean, mean, rel_tol=_DIGITS_OF_SCORES, abs_tol=_DIGITS_OF_SCORES):
            raise RunError(
                f"{run.path}/evaluation.json",
                expected=f"the mean {metric} of tasks.csv, {mean:.6g}",
                got=f"{reported.mean:.6g}",
                why="One of the two files was changed",
                next_step=f"Run this study again after: {command('adapt', run.path, '--out', run.path)}",
            )
    losses: NDArray[np.float64] = scores[:, :, SCORE_COLUMNS.index("query_loss")]
    return losses


def diverged_share(losses: NDArray[np.float64]) -> float:
    """Return the share of tasks that diverged in adaptation: query loss not finite, or ten times that before it.

    Args:
        losses: [num_tasks, num_inner_steps + 1], query losses at every inner step.
    """
    before, after = losses[:, 0], losses[:, -1]
    return float(np.mean(~np.isfinite(after) | (after > DIVERGED_FACTOR * before)))


def has_result(sweep: Sweep, folder: Path) -> bool:
    """Return whether a cell's run directory holds all results that the study asks for."""
    return RunDirectory(folder).has_report and has_extras(sweep, folder)


def has_extras(sweep: Sweep, folder: Path) -> bool:
    """Return whether a cell's run directory holds what the study asks for beside the run: collapse and control."""
    if sweep.control_tasks and not has_control(folder):
        return False
    return (folder / COLLAPSE).is_file() or not _is_collapsed(sweep, folder)


def can_read_extras(sweep: Sweep, folder: Path) -> bool:
    """Return whether a cell's run directory holds its extras undamaged; if not, they are written again."""
    if sweep.control_tasks and not is_control_kept(folder):
        return False
    is_kept = kept_record(folder / COLLAPSE, CollapseRecord.from_json) is not None
    return is_kept or not _is_collapsed(sweep, folder)


def _is_collapsed(sweep: Sweep, folder: Path) -> bool:
    return sweep.with_collapse and sweep.collapses(RunDirectory(folder).recipe)


def _candidates(
    sweep: Sweep, cells: Sequence[Cell], path: Path, failed: Collection[str], diverged: Collection[str]
) -> tuple[RateCandidate, ...]:
    """Return the inner learning rates of a value to choose from, each with its meta-validation score."""
    metric = validation_metric(sweep.recipe)
    candidates = []
    for rate in sweep.inner_lrs:
        runs = [RunDirectory(path / "cells" / cell.name) for cell in cells if cell.inner_lr == rate]
        candidates.append(rate_candidate(rate, runs, metric=metric, failed=failed, diverged=diverged))
    return tuple(candidates)


def _collapse(runs: Mapping[int, RunDirectory]) -> Collapse:
    """Return the collapse of some runs: the size that all have, and the one that is farthest from its stack."""
    return Collapse.of([read_record(run.path / COLLAPSE, CollapseRecord.from_json) for run in runs.values()])
