"""An inner learning rate is chosen among several by meta-validation and nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.cell_result import RateCandidate


def validation_metric(recipe: Recipe) -> str:
    """Return what meta-validation goes by: `validation.metric`, else accuracy, or loss for regression."""
    return recipe.validation.metric or ("accuracy" if recipe.is_classification else "loss")


def validation_score(run: RunDirectory, metric: str) -> float | None:
    """Return a run's best meta-validation score: accuracy, or minus the loss; None without a finite one."""
    validations = [record for record in run.read_metrics() if record["kind"] == "validation"]
    values = [record.get("loss") if metric == "loss" else record.get("accuracy") for record in validations]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return max((-value if metric == "loss" else value for value in finite), default=None)


def rate_candidate(
    rate: float, runs: Sequence[RunDirectory], *, metric: str, failed: Collection[str], diverged: Collection[str]
) -> RateCandidate:
    """Return one rate of one axis value with its mean meta-validation score over seeds.

    Args:
        rate: the inner learning rate.
        runs: one of each seed.
        metric: "accuracy" or "loss".
        failed: names of the folders of runs that failed, for whatever reason.
        diverged: names of those that diverged; the rate is at fault then.
    """
    names = {run.path.name for run in runs}
    if names & (set(failed) - set(diverged)):
        return RateCandidate(rate, "failed", None)
    scores = [None if run.path.name in diverged else validation_score(run, metric) for run in runs]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return RateCandidate(rate, "diverged", None)
    return RateCandidate(rate, "done", math.fsum(known) / len(known))


def choose_inner_lr(candidates: Sequence[RateCandidate]) -> float | None:
    """Return the rate with the best meta-validation score, the smaller one of equals; None if there is none."""
    scored = [(c.validation_score, -c.inner_lr) for c in candidates if c.validation_score is not None]
    return -max(scored)[1] if scored else None
