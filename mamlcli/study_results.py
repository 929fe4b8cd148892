"""Finished runs of a study -> its machine-readable result: means, intervals, curves and paired differences.

Over several seeds, a number is the mean of the seeds' means over tasks, its interval is over seeds, and two axis
values are compared seed by seed. With one seed, intervals are over that run's tasks, and values are compared task
by task: all runs of a study are scored on the same tasks. The name of an interval says which it is.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mamlcli.rundir import SCORE_COLUMNS, RunDirectory
from mamlcli.statistics import Estimate, estimate, paired_difference

METRICS = ("loss", "accuracy")
_CURVE_KEYS = ("loss", "accuracy", "support_loss", "support_accuracy")
_COLUMN_OF = {"loss": "query_loss", "accuracy": "query_accuracy"}


@dataclass(frozen=True)
class FinishedCell:
    """One axis value and its finished runs.

    Attributes:
        value: as it stands in the result: a number, a name, or an object on a two-axis grid.
        inner_lr: the rate of these runs.
        runs: their directories by seed; empty where none has finished.
        more: further keys of the cell.
    """

    value: Any
    inner_lr: float
    runs: Mapping[int, RunDirectory]
    more: Mapping[str, Any]


def summary(values: ArrayLike, over: str = "seeds") -> dict[str, float | None]:
    """Return `{"mean", "ci95_over_<over>"}`; None for what is not finite or does not exist."""
    return _as_json(estimate(values), over)


def _as_json(value: Estimate, over: str) -> dict[str, float | None]:
    return {
        "mean": value.mean if math.isfinite(value.mean) else None,
        f"ci95_over_{over}": value.ci95 if math.isfinite(value.ci95) else None,
    }


def collect(cells: Sequence[FinishedCell], pairs: Sequence[tuple[int, int]], *, num_seeds: int) -> dict[str, Any]:
    """Return the parts of a result that are read from runs: cells, comparisons, protocol, references.

    Args:
        cells: in the order of the axis.
        pairs: (a, b) as indices into `cells`, for each a comparison: the difference is a minus b.
        num_seeds: seeds asked for; one means intervals over tasks.
    """
    over = "tasks" if num_seeds == 1 else "seeds"
    reports = [{seed: read_report(run) for seed, run in cell.runs.items()} for cell in cells]
    first = next((report for found in reports for report in found.values()), None)
    result: dict[str, Any] = {
        "cells": [_cell(cell, found, over) for cell, found in zip(cells, reports, strict=True) if found],
        "comparisons": [
            comparison
            for a, b in pairs
            for metric in METRICS
            if (comparison := _comparison(cells[a], cells[b], metric, over)) is not None
        ],
    }
    if first is not None:
        result["protocol"] = first["protocol"]
        # One report of each seed: all axis values have the seed's tasks, and with them its references.
        by_seed = {seed: report for found in reversed(reports) for seed, report in found.items()}
        result["references"] = _references([by_seed[seed] for seed in sorted(by_seed)])
        if "chance_accuracy" in first:
            result["chance_accuracy"] = first["chance_accuracy"]
    return result


def read_report(run: RunDirectory) -> dict[str, Any]:
    """Return a run's result as JSON holds it."""
    return run.read_report().to_json()


def _cell(cell: FinishedCell, reports: dict[int, dict[str, Any]], over: str) -> dict[str, Any]:
    curves = [report["curve"] for report in reports.values()]
    manifests = [run.manifest for run in cell.runs.values()]
    curve = [_point([points[step] for points in curves], over) for step in range(len(curves[0]))]
    return {
        "value": cell.value,
        "seeds": list(cell.runs),
        "run_dirs": [str(run.path) for run in cell.runs.values()],
        "inner_lr": cell.inner_lr,
        **{metric: curve[-1][metric] for metric in METRICS if metric in curve[-1]},
        "curve": curve,
        "num_parameters": manifests[0]["num_parameters"],
        "num_transform_parameters": manifests[0]["num_transform_parameters"],
        **cell.more,
    }


def _point(points: Sequence[dict[str, Any]], over: str) -> dict[str, Any]:
    """Return one point of the mean curve; with intervals over tasks it is the one run's own."""
    keys = [key for key in _CURVE_KEYS if key in points[0]]
    if over == "tasks":
        return {"step": points[0]["step"], **{key: points[0][key] for key in keys}}
    values = {key: [_number(point[key]["mean"]) for point in points] for key in keys}
    return {"step": points[0]["step"], **{key: summary(found) for key, found in values.items()}}


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _comparison(a: FinishedCell, b: FinishedCell, metric: str, over: str) -> dict[str, Any] | None:
    """Return the paired difference a - b of a metric after adaptation; None where there is nothing to compare."""
    seeds = [seed for seed in a.runs if seed in b.runs]
    if not seeds:
        return None
    if metric not in read_report(a.runs[seeds[0]])["final"]:
        return None
    if over == "tasks":
        scores = [_task_scores(cell.runs[seeds[0]], metric) for cell in (a, b)]
    else:
        scores = [
            np.array([_number(read_report(cell.runs[s])["final"][metric]["mean"]) for s in seeds]) for cell in (a, b)
        ]
    difference = _as_json(paired_difference(scores[0], scores[1]), over)
    return {"a": a.value, "b": b.value, "metric": metric, "difference": difference, "num_pairs": len(scores[0])}


def _task_scores(run: RunDirectory, metric: str) -> NDArray[np.float64]:
    return run.read_scores()[:, -1, SCORE_COLUMNS.index(_COLUMN_OF[metric])]


def _references(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the references: as any run has them, or their mean over seeds where the seeds' tasks differ.

    Args:
        reports: one of each seed.
    """
    all_references = [report["references"] for report in reports]
    if all(references == all_references[0] for references in all_references):
        found = all_references[0]
        assert isinstance(found, dict)
        return found
    return {
        name: {
            metric: summary([_number(references[name][metric]["mean"]) for references in all_references])
            for metric in values
        }
        for name, values in all_references[0].items()
    }


def result_csv(result: dict[str, Any]) -> str:
    """Return a result as CSV, one line for each axis value; two-axis values get a column for each axis."""
    rows = [_csv_row(cell) for cell in result["cells"]]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _csv_row(cell: dict[str, Any]) -> dict[str, Any]:
    value = cell["value"]
    row: dict[str, Any] = dict(value) if isinstance(value, dict) else {"value": value}
    row["num_seeds"] = len(cell["seeds"])
    for key, item in cell.items():
        if key in ("value", "seeds", "run_dirs", "curve", "candidates", "collapse"):
            continue
        row.update(_flat(key, item))
    for metric in METRICS:
        if metric in cell["curve"][0]:
            row.update(_flat(f"{metric}_before_adaptation", cell["curve"][0][metric]))
    return row


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: found for name, item in value.items() for key, found in _flat(f"{prefix}_{name}", item).items()}
