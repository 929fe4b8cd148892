"""The choice of an inner learning rate among several, by meta-validation and nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mamlcli.recipe import Recipe
from mamlcli.rundir import RunDirectory


def validation_metric(recipe: Recipe) -> str:
    """Return what meta-validation goes by: `validation.metric`, else accuracy, or loss for regression."""
    return recipe.validation.metric or ("accuracy" if recipe.is_classification else "loss")


def validation_score(run: RunDirectory, metric: str) -> float | None:
    """Return a run's best meta-validation score: accuracy, or minus the loss; None without a finite one."""
    scores = [
        -record["loss"] if metric == "loss" else record["accuracy"]
        for record in run.read_metrics()
        if record["kind"] == "validation"
    ]
    finite = [score for score in scores if math.isfinite(score)]
    return max(finite, default=None)


def rate_candidate(
    rate: float, runs: Sequence[RunDirectory], *, metric: str, failed: Collection[str], diverged: Collection[str]
) -> dict[str, Any]:
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
        return {"inner_lr": rate, "status": "failed", "validation_score": None}
    scores = [None if run.path.name in diverged else validation_score(run, metric) for run in runs]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return {"inner_lr": rate, "status": "diverged", "validation_score": None}
    return {"inner_lr": rate, "status": "done", "validation_score": math.fsum(known) / len(known)}


def choose_inner_lr(candidates: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the rate with the best meta-validation score, the smaller one of equals; None if there is none."""
    scored = [candidate for candidate in candidates if candidate["validation_score"] is not None]
    best = max(scored, key=lambda found: (found["validation_score"], -found["inner_lr"]), default=None)
    return None if best is None else float(best["inner_lr"])
