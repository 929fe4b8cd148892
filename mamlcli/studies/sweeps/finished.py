"""Finds the finished runs of each axis value, of the inner learning rate that `rates` chooses."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.cell_result import Collapse, CollapseRecord, RateCandidate
from mamlcli.studies.sweeps.collapsed_control import has_control
from mamlcli.studies.sweeps.rates import choose_inner_lr, rate_candidate, validation_metric
from mamlcli.studies.sweeps.scores import Value
from mamlcli.studies.sweeps.sweep import AxisValue, Cell, Sweep


@dataclass(frozen=True)
class FinishedCell:
    """A finished cell is an axis value with its finished runs.

    Attributes:
        value: of the axis.
        inner_lr: the rate of these runs.
        runs: their directories by seed; empty where none has finished.
        candidates: the inner learning rates that theirs was chosen from; empty where there was no choice.
        collapse: of their linear layers; None where the study does not collapse them.
    """

    value: Value
    inner_lr: float
    runs: Mapping[int, RunDirectory]
    candidates: tuple[RateCandidate, ...] = ()
    collapse: Collapse | None = None

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
    collapse = _collapse(runs) if sweep.with_collapse and runs else None
    return FinishedCell(value.value, rate, runs, candidates, collapse)


def has_result(sweep: Sweep, folder: Path) -> bool:
    """Return whether a cell's run directory holds all results that the study asks for."""
    has_collapse = (folder / "collapse.json").is_file()
    if not RunDirectory(folder).has_report or (sweep.with_control and not has_control(folder)):
        return False
    return has_collapse or not sweep.with_collapse


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
    records = [CollapseRecord.from_json(json.loads((run.path / "collapse.json").read_text())) for run in runs.values()]
    worst = max(records, key=lambda record: record.largest_relative_difference)
    return Collapse(records[0].num_parameters_collapsed, worst)
