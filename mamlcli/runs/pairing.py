"""Decides whether two finished runs were scored on the same tasks, and reads the scores of a run's tasks.

Task i of a split is drawn from a generator keyed by (evaluation.seed, split, i). So two runs with the same keys of the
tasks that are scored, split, evaluation seed and data were scored on the same tasks, whatever statistics their batch
norms take.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import RunError
from mamlcli.common.names import HELD_BACK
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.entry import RunEntry
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.models import is_model
from mamlcli.runs.scores_table import SCORE_COLUMNS
from mamlcli.runs.suggestions import adapt_again

# tasks.csv has nine digits; a mean over tasks that differs by more is of another evaluation.
_SAME_EVALUATION = 1e-5


def final_task_scores(run: RunEntry) -> NDArray[np.float64]:
    """Return the scores of a run's tasks after the last inner step: [num_tasks, 4], columns as `SCORE_COLUMNS`.

    Raises:
        RunError: as `task_scores`.
    """
    return task_scores(run)[:, -1]


def task_scores(run: RunEntry) -> NDArray[np.float64]:
    """Return the scores of a finished run's tasks: [num_tasks, num_inner_steps + 1, 4], columns as `SCORE_COLUMNS`.

    Raises:
        RunError: they cannot be read, or are not those of the run's result.
    """
    assert run.report is not None
    scores = RunDirectory(run.path).read_scores()
    protocol, expected = run.report.protocol, run.report.final.mean("loss")
    mean = scores[:, -1, SCORE_COLUMNS.index("query_loss")].mean()
    num_points = 1 if is_model(run.path) else protocol.inner_steps + 1
    is_same = scores.shape[:2] == (protocol.num_tasks, num_points)
    if math.isfinite(expected):
        is_same &= bool(abs(mean - expected) <= _SAME_EVALUATION * max(1.0, abs(expected)))
    if not is_same:
        where, next_step = f"{run.where}/tasks.csv", f"Run: {adapt_again(run.path)}"
        raise RunError(where, expected="the tasks of evaluation.json", got="another evaluation's", next_step=next_step)
    return scores


def task_differences(a: RunEntry, b: RunEntry) -> list[str]:
    """Return why two finished runs were not scored on the same tasks, in words; empty if they were."""
    report_a, recipe_a, report_b, recipe_b = a.report, a.recipe, b.report, b.recipe
    assert report_a is not None
    assert report_b is not None
    assert recipe_a is not None
    assert recipe_b is not None
    digests = a.manifest.data_digest, b.manifest.data_digest
    protocols = report_a.protocol, report_b.protocol
    without_effect = set()
    if None not in digests:
        without_effect.add("tasks.path")  # the same images may lie in another place; their digest tells
    if not {"train", HELD_BACK} & {protocol.split for protocol in protocols}:
        without_effect.add("tasks.held_back")
    scored = (recipe.model_copy(update={"tasks": recipe.scored_tasks}) for recipe in (recipe_a, recipe_b))
    pairs: dict[str, tuple[object, object]] = {
        _scored_key(key, recipe_a, recipe_b): pair
        for key, pair in recipe_difference(*scored).items()
        if key.startswith("tasks.") and key not in without_effect
    }
    for key in ("split", "seed"):
        of_a, of_b = (getattr(protocol, key) for protocol in protocols)
        pairs[f"evaluation.{key}"] = of_a, of_b
    pairs["data digest"] = digests
    return [f"{key} ({of_a!r} and {of_b!r})" for key, (of_a, of_b) in pairs.items() if of_a != of_b]


def _scored_key(key: str, *recipes: Recipe) -> str:
    """Return the key of evaluation that stands for one of tasks, where either recipe has it."""
    name = key.removeprefix("tasks.")
    is_of_evaluation = any(getattr(recipe.evaluation, name, None) is not None for recipe in recipes)
    return f"evaluation.{name}" if is_of_evaluation else key


def check_comparable(run: RunEntry, baseline: RunEntry, reasons: list[str], *, allow_unpaired: bool) -> None:
    """Raise RunError unless two runs may be compared.

    Args:
        run, baseline: finished ones.
        reasons: why they were not scored on the same tasks, from `task_differences`.
        allow_unpaired: whether they may be compared all the same, as independent samples.
    """
    assert run.recipe is not None
    assert baseline.recipe is not None
    where = f"{run.where} and {baseline.where}"
    if run.recipe.is_classification != baseline.recipe.is_classification:
        expected, why = "two classifications or two regressions", "Their losses are different quantities"
        raise RunError(where, expected=expected, got="one of each", why=why)
    if reasons and not allow_unpaired:
        expected, why = "runs scored on the same tasks", "Their scores cannot be compared task by task"
        got, next_step = (
            f"runs that differ in {', '.join(reasons)}",
            "Add --unpaired to compare the means of different tasks",
        )
        raise RunError(where, expected=expected, got=got, why=why, next_step=next_step)
