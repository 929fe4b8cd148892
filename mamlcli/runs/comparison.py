"""Finished runs side by side: differences paired on the same meta-test tasks, and the recipe keys in which they differ.

Task i of a split is drawn from a generator keyed by (evaluation.seed, split, i). So two runs with the same task keys,
split, evaluation seed and data were scored on the same tasks, and their scores are compared task by task. Anything
else is refused, or compared unpaired where the caller allows it, and then says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import RunError
from mamlcli.common.statistics import Score, paired_difference, welch_difference
from mamlcli.recipe.changes import recipe_difference
from mamlcli.runs.entry import FINISHED, RunEntry
from mamlcli.runs.folder import SCORE_COLUMNS, RunDirectory
from mamlcli.runs.report import RunReport

METRICS = ("loss", "accuracy")


_COLUMN_OF = {"loss": "query_loss", "accuracy": "query_accuracy"}


# tasks.csv has nine digits; a mean over tasks that differs by more is of another evaluation.
_SAME_EVALUATION = 1e-5


# Of each key in which runs differ, the value that each run has, by the run's folder.
Differences = dict[str, dict[str, object]]


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs of a comparison.

    Attributes:
        run: its folder.
        recipe: the recipe's name.
        seed: of the training; None where the manifest does not tell.
        report: its result, over its own tasks.
    """

    run: str
    recipe: str
    seed: int | None
    report: RunReport

    def to_json(self) -> dict[str, Any]:
        """Return the run as `runs compare --json` prints it."""
        scores = {metric: self.report.final.of(metric) for metric in METRICS}
        return {
            "run": self.run,
            "recipe": self.recipe,
            "seed": self.seed,
            "weights": self.report.weights,
            "protocol": self.report.protocol.to_json(),
            **{metric: score.to_json() for metric, score in scores.items() if score is not None},
        }


@dataclass(frozen=True)
class RunDifference:
    """How much two runs differ in a metric after adaptation.

    Attributes:
        a, b: their folders; b is the baseline.
        metric: one of `METRICS`.
        difference: a minus b, with its interval over tasks; without numbers if a task's score is not finite.
        num_pairs: tasks that both were scored on; None if the runs are compared as independent samples.
        num_overflowed: scores that are not finite.
    """

    a: str
    b: str
    metric: str
    difference: Score
    num_pairs: int | None
    num_overflowed: int

    @property
    def is_paired(self) -> bool:
        """Whether the runs were compared task by task."""
        return self.num_pairs is not None

    def to_json(self) -> dict[str, Any]:
        """Return the difference as `runs compare --json` prints it."""
        return {
            "a": self.a,
            "b": self.b,
            "metric": self.metric,
            "difference": self.difference.to_json(),
            "is_paired": self.is_paired,
            "num_pairs": self.num_pairs,
            "num_overflowed": self.num_overflowed,
        }


@dataclass(frozen=True)
class Unpaired:
    """Two runs, by their folders, that were scored on other tasks, and the reasons in words."""

    a: str
    b: str
    reasons: list[str]


def recipe_differences(runs: Sequence[RunEntry], reference: RunEntry) -> Differences:
    """Return {dotted key: {run: value}} of the keys in which any run differs from `reference`, one of them."""
    assert reference.recipe is not None
    found: Differences = {}
    if len({run.recipe_name for run in runs}) > 1:
        found["recipe"] = {run.folder: run.recipe_name for run in runs}
    for run in runs:
        assert run.recipe is not None
        for key, (there, here) in recipe_difference(reference.recipe, run.recipe).items():
            # A run that is not different has what the reference has; later ones overwrite it.
            found.setdefault(key, {other.folder: there for other in runs})[run.folder] = here
    return found


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side.

    Attributes:
        baseline: folder of the run that the others are compared with.
        runs: all of them.
        comparisons: of each other run with the baseline, in each metric.
        not_paired: the runs that are compared as independent samples.
        recipe_differences: the recipe keys in which any two runs differ.
        other_differences: versions, device and data, likewise.
    """

    baseline: str
    runs: tuple[ComparedRun, ...]
    comparisons: tuple[RunDifference, ...]
    not_paired: tuple[Unpaired, ...]
    recipe_differences: Differences
    other_differences: Differences

    def difference(self, run: str, metric: str) -> Score | None:
        """Return how much a run differs from the baseline; None for the baseline itself."""
        pairs = ((row.a, row.metric, row.difference) for row in self.comparisons)
        return next((score for a, name, score in pairs if (a, name) == (run, metric)), None)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as `runs compare --json` prints it."""
        return {
            "baseline": self.baseline,
            "runs": [run.to_json() for run in self.runs],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "not_paired": [asdict(pair) for pair in self.not_paired],
            "recipe_differences": self.recipe_differences,
            "other_differences": self.other_differences,
        }


def compare_runs(runs: Sequence[RunEntry], *, baseline: int = 0, allow_unpaired: bool = False) -> RunComparison:
    """Compare runs with one of them, at their final inner step.

    Args:
        runs: at least two, of different folders.
        baseline: index of the run that the others are compared with.
        allow_unpaired: compare runs that were scored on other tasks, too, as independent samples.

    Raises:
        RunError: fewer than two runs, one twice, one that is not finished or damaged, or one that was scored on
            other tasks and `allow_unpaired` is not set.
    """
    _check(runs)
    scores = [_scores(run) for run in runs]
    reference = runs[baseline]
    comparisons: list[RunDifference] = []
    not_paired = []
    for run, values in zip(runs, scores, strict=True):
        if run is reference:
            continue
        reasons = task_differences(run, reference)
        _check_pairing(run, reference, reasons, allow_unpaired)
        if reasons:
            not_paired.append(Unpaired(run.folder, reference.folder, reasons))
        comparisons += _comparisons(run, reference, values, scores[baseline], is_paired=not reasons)
    return RunComparison(
        baseline=reference.folder,
        runs=tuple(_compared(run) for run in runs),
        comparisons=tuple(comparisons),
        not_paired=tuple(not_paired),
        recipe_differences=recipe_differences(runs, reference),
        other_differences=_differing({run.folder: _circumstances(run) for run in runs}),
    )


def _check(runs: Sequence[RunEntry]) -> None:
    if len(runs) < 2:
        raise RunError("RUN ...", expected="two or more runs", got=str(len(runs)), next_step="Run: mamlcli runs ls")
    seen: set[Path] = set()
    for run in runs:
        check_finished(run)
        if run.path.resolve() in seen:
            raise RunError(run.where, expected="different runs", got="the same one twice")
        seen.add(run.path.resolve())


def check_finished(run: RunEntry) -> None:
    """Raise RunError unless a run is finished and can be read."""
    where = run.where
    if run.status == "damaged":
        raise RunError(
            where,
            expected="a run that can be read",
            got=f"a damaged one: {run.reason}",
            next_step=f"If its result alone is, run: mamlcli adapt {where} --out {where}",
        )
    if run.status == "running":
        raise RunError(
            where,
            expected="a finished run",
            got=f"one at work, at iteration {run.iteration}",
            next_step="Wait for it to end",
        )
    if run.status not in FINISHED:
        raise RunError(
            where,
            expected="a finished run",
            got=f"one that is {run.status}",
            next_step=f"Run: mamlcli train --resume --run-dir {where}",
        )


def _scores(run: RunEntry) -> NDArray[np.float64]:
    """Return the scores of a run's tasks at its final inner step, [num_tasks, 4]; they must be of its result."""
    assert run.report is not None
    scores = RunDirectory(run.path).read_scores()
    protocol, expected = run.report.protocol, run.report.final.mean("loss")
    mean = scores[:, -1, SCORE_COLUMNS.index("query_loss")].mean()
    is_same = scores.shape[:2] == (protocol.num_tasks, protocol.inner_steps + 1)
    if math.isfinite(expected):
        is_same &= bool(abs(mean - expected) <= _SAME_EVALUATION * max(1.0, abs(expected)))
    if not is_same:
        where = run.where
        raise RunError(
            f"{where}/tasks.csv",
            expected="the tasks of evaluation.json",
            got="another evaluation's",
            next_step=f"Run: mamlcli adapt {where} --out {where}",
        )
    return scores[:, -1]


def task_differences(a: RunEntry, b: RunEntry) -> list[str]:
    """Return why two finished runs were not scored on the same tasks, in words; empty if they were."""
    report_a, recipe_a, report_b, recipe_b = a.report, a.recipe, b.report, b.recipe
    assert report_a is not None
    assert report_b is not None
    assert recipe_a is not None
    assert recipe_b is not None
    digests = [run.manifest.get("data", {}).get("digest") for run in (a, b)]
    # The same images may lie in another place; their digest tells.
    found = {
        key: pair
        for key, pair in recipe_difference(recipe_a, recipe_b).items()
        if key.startswith("tasks.") and (key != "tasks.path" or None in digests)
    }
    for key in ("split", "seed"):
        found[f"evaluation.{key}"] = getattr(report_a.protocol, key), getattr(report_b.protocol, key)
    found["data digest"] = digests[0], digests[1]
    return [f"{key} ({old!r} and {new!r})" for key, (old, new) in found.items() if old != new]


def _check_pairing(run: RunEntry, reference: RunEntry, reasons: list[str], allow_unpaired: bool) -> None:
    assert run.recipe is not None
    assert reference.recipe is not None
    where = f"{run.where} and {reference.where}"
    if run.recipe.is_classification != reference.recipe.is_classification:
        raise RunError(
            where,
            expected="two classifications or two regressions",
            got="one of each",
            why="Their losses are different quantities",
        )
    if reasons and not allow_unpaired:
        raise RunError(
            where,
            expected="runs scored on the same tasks",
            got=f"runs that differ in {', '.join(reasons)}",
            why="Their scores cannot be compared task by task",
            next_step="Add --unpaired to compare the means of different tasks",
        )


def _comparisons(
    run: RunEntry,
    reference: RunEntry,
    scores: NDArray[np.float64],
    reference_scores: NDArray[np.float64],
    *,
    is_paired: bool,
) -> list[RunDifference]:
    assert run.recipe is not None
    num_pairs = min(len(scores), len(reference_scores))  # tasks are numbered: the first ones are the same
    differences = []
    for metric in METRICS if run.recipe.is_classification else METRICS[:1]:
        column = SCORE_COLUMNS.index(_COLUMN_OF[metric])
        a, b = scores[:, column], reference_scores[:, column]
        if is_paired:
            a, b = a[:num_pairs], b[:num_pairs]
        difference = paired_difference(a, b) if is_paired else welch_difference(a, b)
        differences.append(
            RunDifference(
                a=run.folder,
                b=reference.folder,
                metric=metric,
                difference=Score.of(difference),
                num_pairs=num_pairs if is_paired else None,
                num_overflowed=int((~np.isfinite(a)).sum() + (~np.isfinite(b)).sum()),
            )
        )
    return differences


def _compared(run: RunEntry) -> ComparedRun:
    assert run.report is not None
    return ComparedRun(run.folder, run.recipe_name, run.manifest.get("seed"), run.report)


def _circumstances(run: RunEntry) -> dict[str, object]:
    """Return what may change a result beside the recipe: versions, device, data."""
    versions = run.manifest.get("versions", {})
    found = {f"versions.{name}": versions.get(name) for name in ("mamlcli", "torch")}
    return found | {"device": run.manifest.get("device"), "data digest": run.manifest.get("data", {}).get("digest")}


def _differing(values: dict[str, dict[str, object]]) -> Differences:
    """Return {key: {run: value}} of the keys that are not the same in all runs; None where a run has no such key."""
    keys = dict.fromkeys(key for found in values.values() for key in found)
    table = {key: {run: found.get(key) for run, found in values.items()} for key in keys}
    return {key: row for key, row in table.items() if any(value != next(iter(row.values())) for value in row.values())}
