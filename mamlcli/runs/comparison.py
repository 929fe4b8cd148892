"""Compares finished runs with one of them: how much their scores differ, and in which recipe keys.

Runs that were scored on the same tasks are compared task by task. Others are refused, or compared unpaired where the
caller allows it, and then the comparison says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import RunError
from mamlcli.common.statistics import Score, paired_difference, welch_difference
from mamlcli.recipe.changes import recipe_difference
from mamlcli.runs.entry import RunEntry, notices_of
from mamlcli.runs.manifest import FINISHED
from mamlcli.runs.pairing import check_comparable, final_task_scores, task_differences
from mamlcli.runs.parts import values_over_parts
from mamlcli.runs.report import RunReport
from mamlcli.runs.scores_table import SCORE_COLUMNS
from mamlcli.runs.suggestions import adapt_again, resume

QUERY_METRICS = ("loss", "accuracy")


_COLUMN_OF = {"loss": "query_loss", "accuracy": "query_accuracy"}


# Of each key in which runs differ, the value that each run has, by the run's folder.
Differences = dict[str, dict[str, object]]


@dataclass(frozen=True)
class ComparedRun:
    """Holds one run of a comparison: what it is, and its result.

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

    def to_json(self) -> dict[str, object]:
        """Return the run as `runs compare --json` prints it."""
        scores = {metric: self.report.final.of(metric) for metric in QUERY_METRICS}
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
    """Says how much two runs differ in a metric after adaptation.

    Attributes:
        a, b: their folders; b is the baseline.
        metric: one of `QUERY_METRICS`.
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
    def why_no_interval(self) -> str | None:
        """Why a difference that is a number has no interval, in words; None where it has one, or is no number."""
        if self.difference.mean is None or self.difference.ci95 is not None:
            return None
        if self.num_pairs is None:
            return "each run scores the same on all its tasks"
        return f"it is the same on all {self.num_pairs} tasks" if self.num_pairs > 1 else "it is of one task"

    @property
    def is_paired(self) -> bool:
        """Whether the runs were compared task by task."""
        return self.num_pairs is not None

    def to_json(self) -> dict[str, object]:
        """Return the difference as `runs compare --json` prints it."""
        return {
            "a": self.a,
            "b": self.b,
            "metric": self.metric,
            "difference": self.difference.to_json(),
            "is_paired": self.is_paired,
            "num_pairs": self.num_pairs,
            "num_overflowed": self.num_overflowed,
            **({"why_no_interval": self.why_no_interval} if self.why_no_interval else {}),
        }


@dataclass(frozen=True)
class Unpaired:
    """Says why two runs, named by their folders, are not compared task by task."""

    a: str
    b: str
    reasons: list[str]


def recipe_differences(runs: Sequence[RunEntry], base_run: RunEntry) -> Differences:
    """Return the recipe keys in which any run differs from `base_run`, with the value that each run has."""
    assert base_run.recipe is not None
    differences: Differences = {}
    if len({run.recipe_name for run in runs}) > 1:
        differences["recipe"] = {run.folder: run.recipe_name for run in runs}
    for run in runs:
        assert run.recipe is not None
        for key, (there, here) in recipe_difference(base_run.recipe, run.recipe).items():
            # A run that does not differ has the value of the base run; those that do overwrite it.
            differences.setdefault(key, {other.folder: there for other in runs})[run.folder] = here
    return differences


@dataclass(frozen=True)
class RunComparison:
    """Holds runs side by side.

    Attributes:
        baseline: folder of the run that the others are compared with.
        runs: all of them.
        comparisons: of each other run with the baseline, in each metric.
        not_paired: the runs that are compared as independent samples.
        recipe_differences: the recipe keys in which any two runs differ.
        other_differences: versions, device and data, likewise.
        notices: in words, by folder, what of a run's files is not as the run has left them.
    """

    baseline: str
    runs: tuple[ComparedRun, ...]
    comparisons: tuple[RunDifference, ...]
    not_paired: tuple[Unpaired, ...]
    recipe_differences: Differences
    other_differences: Differences
    notices: Mapping[str, list[str]] = field(default_factory=dict)

    def difference(self, run: str, metric: str) -> Score | None:
        """Return how much a run differs from the baseline; None for the baseline itself."""
        pairs = ((row.a, row.metric, row.difference) for row in self.comparisons)
        return next((score for a, name, score in pairs if (a, name) == (run, metric)), None)

    def to_json(self) -> dict[str, object]:
        """Return the comparison as `runs compare --json` prints it."""
        return {
            "baseline": self.baseline,
            "runs": [run.to_json() for run in self.runs],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "not_paired": [asdict(pair) for pair in self.not_paired],
            "recipe_differences": self.recipe_differences,
            "other_differences": self.other_differences,
            **({"notices": dict(self.notices)} if self.notices else {}),
        }


def compare_runs(runs: Sequence[RunEntry], *, baseline: int = 0, allow_unpaired: bool = False) -> RunComparison:
    """Compare runs with one of them, after the last inner step.

    Args:
        runs: at least two, of different folders.
        baseline: index of the run that the others are compared with.
        allow_unpaired: compare runs that were scored on other tasks, too, as independent samples.

    Raises:
        RunError: there are fewer than two runs, the same run twice, a run that is damaged or not finished, or a run
            that was scored on other tasks while `allow_unpaired` is not set.
    """
    _check(runs)
    scores = [final_task_scores(run) for run in runs]
    base_run = runs[baseline]
    comparisons: list[RunDifference] = []
    not_paired = []
    for run, values in zip(runs, scores, strict=True):
        if run is base_run:
            continue
        reasons = task_differences(run, base_run)
        check_comparable(run, base_run, reasons, allow_unpaired=allow_unpaired)
        if reasons:
            not_paired.append(Unpaired(run.folder, base_run.folder, reasons))
        comparisons += _comparisons(run, base_run, values, scores[baseline], is_paired=not reasons)
    return RunComparison(
        baseline=base_run.folder,
        runs=tuple(_compared(run) for run in runs),
        comparisons=tuple(comparisons),
        not_paired=tuple(not_paired),
        recipe_differences=recipe_differences(runs, base_run),
        other_differences=_differing({run.folder: _circumstances(run) for run in runs}),
        notices={run.folder: found for run in runs if (found := notices_of(run))},
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
    if run.status in FINISHED:
        return
    where, expected = run.where, "a finished run"
    got = f"one that is {run.status}"
    next_step: str | None = f"Run: {resume(run.path)}"
    if run.status == "damaged":
        expected, got = "a run that can be read", f"a damaged one: {run.reason}"
        next_step = f"If its result alone is, run: {adapt_again(run.path)}"
    if run.status == "needs":
        expected, got, next_step = "a run whose packages are installed", f"one that needs {run.reason}", None
    if run.status == "running":
        got, next_step = f"one at work, at iteration {run.iteration}", "Wait for it to end"
    raise RunError(where, expected=expected, got=got, next_step=next_step)


def _comparisons(
    run: RunEntry,
    base_run: RunEntry,
    scores: NDArray[np.float64],
    base_scores: NDArray[np.float64],
    *,
    is_paired: bool,
) -> list[RunDifference]:
    assert run.recipe is not None
    num_pairs = min(len(scores), len(base_scores))  # tasks are numbered: the first ones are the same
    differences = []
    for metric in QUERY_METRICS if run.recipe.is_classification else QUERY_METRICS[:1]:
        column = SCORE_COLUMNS.index(_COLUMN_OF[metric])
        a, b = scores[:, column], base_scores[:, column]
        if is_paired:
            a, b = a[:num_pairs], b[:num_pairs]
        difference = paired_difference(a, b) if is_paired else welch_difference(a, b)
        differences.append(
            RunDifference(
                a=run.folder,
                b=base_run.folder,
                metric=metric,
                difference=Score.of(difference),
                num_pairs=num_pairs if is_paired else None,
                num_overflowed=int((~np.isfinite(a)).sum() + (~np.isfinite(b)).sum()),
            )
        )
    return differences


def _compared(run: RunEntry) -> ComparedRun:
    assert run.report is not None
    return ComparedRun(run.folder, run.recipe_name, run.manifest.seed, run.report)


def _circumstances(run: RunEntry) -> dict[str, object]:
    """Return what can change a result although the recipe is the same: versions, device and data."""
    manifest = run.manifest
    versions = {f"versions.{name}": values_over_parts(manifest, "versions", name) for name in ("mamlcli", "torch")}
    return versions | {"device": values_over_parts(manifest, "device"), "data digest": manifest.data_digest}


def _differing(values: dict[str, dict[str, object]]) -> Differences:
    """Return the keys whose values are not the same in all runs; None where a run has no such key."""
    keys = dict.fromkeys(key for of_run in values.values() for key in of_run)
    table = {key: {run: of_run.get(key) for run, of_run in values.items()} for key in keys}
    return {key: row for key, row in table.items() if any(value != next(iter(row.values())) for value in row.values())}
