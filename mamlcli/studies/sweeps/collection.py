"""The finished runs of a study become numbers here: means, intervals, curves and paired differences.

Over several seeds, a number is the mean of the seeds' means over tasks, its interval is over seeds, and two axis
values are compared seed by seed. With one seed, intervals are over that run's tasks, and values are compared task
by task: all runs of a seed are scored on the same tasks. The name of an interval says which it is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.machine import short_versions
from mamlcli.common.names import LINEAR_PROBE
from mamlcli.common.statistics import Score, paired_difference, summary
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import Point, Protocol, RunReport
from mamlcli.runs.scores_table import SCORE_COLUMNS
from mamlcli.studies.sweeps.cell_result import CellResult, CurvePoint
from mamlcli.studies.sweeps.finished import COLUMN_OF, FinishedCell
from mamlcli.studies.sweeps.result import Comparison, StudyResult
from mamlcli.studies.sweeps.scores import METRICS, StudyScores, value_to_json

_CURVE_METRICS = ("loss", "accuracy", "support_loss", "support_accuracy")


@dataclass(frozen=True)
class Collected:
    """The parts of a study's result that are read from runs are collected; attributes as those of `StudyResult`."""

    cells: tuple[CellResult, ...]
    comparisons: tuple[Comparison, ...]
    protocol: Protocol | None
    references: Mapping[str, StudyScores]
    chance_accuracy: float | None
    versions: Mapping[str, tuple[str, ...]]


def collect(cells: Sequence[FinishedCell], pairs: Sequence[tuple[int, int]], *, num_seeds: int) -> Collected:
    """Return the parts of a result that are read from runs: cells, comparisons, protocol, references.

    Args:
        cells: in the order of the axis.
        pairs: (a, b) as indices into `cells`, for each a comparison: the difference is a minus b.
        num_seeds: seeds asked for; one means intervals over tasks.
    """
    over = "tasks" if num_seeds == 1 else "seeds"
    scored = [_ScoredCell(cell, {seed: run.read_report() for seed, run in cell.runs.items()}) for cell in cells]
    # One report of each seed: all axis values have the seed's tasks, and with them its references.
    by_seed = {seed: report for cell in reversed(scored) for seed, report in cell.reports.items()}
    first = next((report for cell in scored for report in cell.reports.values()), None)
    compared = (_comparison(scored[a], scored[b], metric, over) for a, b in pairs for metric in METRICS)
    return Collected(
        cells=tuple(_cell_result(cell, over) for cell in scored if cell.reports),
        comparisons=tuple(comparison for comparison in compared if comparison is not None),
        protocol=None if first is None else first.protocol,
        references=mean_references([references_of(by_seed[seed]) for seed in sorted(by_seed)]),
        chance_accuracy=None if first is None else first.chance_accuracy,
        versions=versions_of([run for cell in cells for run in cell.runs.values()]),
    )


@dataclass(frozen=True)
class _ScoredCell:
    """An axis value with the reports of its runs, by seed."""

    cell: FinishedCell
    reports: Mapping[int, RunReport]


def versions_of(runs: Sequence[RunDirectory]) -> dict[str, tuple[str, ...]]:
    """Return the versions of code and libraries that made some runs, by name: one each where they are all the same."""
    versions: dict[str, set[str]] = {}
    for run in runs:
        manifest = run.manifest
        for name, version in {**short_versions(manifest.versions), "commit": manifest.git.get("commit")}.items():
            if version is not None:
                versions.setdefault(name, set()).add(str(version))
    return {name: tuple(sorted(found)) for name, found in sorted(versions.items())}


def final_scores(report: RunReport) -> StudyScores:
    """Return the scores of a run after the last inner step."""
    return StudyScores.of_run(report.final)


def references_of(report: RunReport) -> dict[str, StudyScores]:
    """Return the floors and baselines of a run that depend on its tasks alone, by name."""
    of_tasks = {name: scores for name, scores in report.references.items() if name != LINEAR_PROBE}
    return {name: StudyScores.of_run(scores) for name, scores in of_tasks.items()}


def _cell_result(scored: _ScoredCell, over: str) -> CellResult:
    cell, curves = scored.cell, [report.curve for report in scored.reports.values()]
    manifest = next(iter(cell.runs.values())).manifest
    return CellResult(
        value=cell.value,
        seeds=tuple(cell.runs),
        run_dirs=tuple(str(run.path) for run in cell.runs.values()),
        inner_lr=cell.inner_lr,
        curve=tuple(_point([points[step] for points in curves], over) for step in range(len(curves[0]))),
        num_parameters=manifest.num_parameters or 0,
        num_transform_parameters=manifest.num_transform_parameters or 0,
        candidates=cell.candidates,
        collapse=cell.collapse,
        diverged_tasks=cell.diverged_tasks,
    )


def _point(points: Sequence[Point], over: str) -> CurvePoint:
    """Return one point of the mean curve; with intervals over tasks it is that of the only run."""
    scores = [StudyScores.of_run(point.scores, _CURVE_METRICS) for point in points]
    return CurvePoint(points[0].step, scores[0] if over == "tasks" else mean_scores(scores))


def mean_scores(scores: Sequence[StudyScores]) -> StudyScores:
    """Return the means over seeds, with their intervals, of the scores of each seed."""
    means = {name: [of_seed.mean(name) for of_seed in scores] for name in scores[0].values}
    return StudyScores({name: summary(values) for name, values in means.items()}, "seeds")


def _comparison(a: _ScoredCell, b: _ScoredCell, metric: str, over: str) -> Comparison | None:
    """Return the paired difference a - b of a metric after adaptation; None where there is nothing to compare."""
    seeds = [seed for seed in a.reports if seed in b.reports]
    if not seeds or a.reports[seeds[0]].final.of(metric) is None:
        return None
    if over == "tasks":
        scores = [_task_scores(scored.cell.runs[seeds[0]], metric) for scored in (a, b)]
    else:
        scores = [np.array([scored.reports[seed].final.mean(metric) for seed in seeds]) for scored in (a, b)]
    difference = Score.of(paired_difference(scores[0], scores[1]))
    return Comparison(a.cell.value, b.cell.value, metric, difference, over, len(scores[0]))


def _task_scores(run: RunDirectory, metric: str) -> NDArray[np.float64]:
    return run.read_scores()[:, -1, SCORE_COLUMNS.index(COLUMN_OF[metric])]


def mean_references(references: Sequence[Mapping[str, StudyScores]]) -> Mapping[str, StudyScores]:
    """Return the references: as any run has them, or their mean over seeds where the seeds' tasks differ.

    Args:
        references: of one run of each seed; none for none.
    """
    if not references or all(of_seed == references[0] for of_seed in references):
        return references[0] if references else {}
    return {name: mean_scores([of_seed[name] for of_seed in references]) for name in references[0]}


def result_csv(result: StudyResult) -> str:
    """Return a result as CSV, one line for each axis value; two-axis values get a column for each axis."""
    rows = [_csv_row(cell) for cell in result.cells]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _csv_row(cell: CellResult) -> dict[str, object]:
    value = value_to_json(cell.value)
    row: dict[str, object] = dict(value) if isinstance(value, dict) else {"value": value}
    row["num_seeds"] = len(cell.seeds)
    for key, item in cell.to_json().items():
        if key not in ("value", "seeds", "run_dirs", "curve", "collapse"):
            row |= _flat(key, item)
    before = cell.curve[0].scores.to_json()
    for metric in METRICS:
        if metric in before:
            row |= _flat(f"{metric}_before_adaptation", before[metric])
    return row


def _flat(prefix: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: item for name, part in value.items() for key, item in _flat(f"{prefix}_{name}", part).items()}
