"""Finished studies become scores by seed: the evidence of each claim."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mamlcli.common.errors import NonFiniteError
from mamlcli.engine.execution import Execution
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ImageKeys
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.scores_table import SCORE_COLUMNS
from mamlcli.runs.search import is_run
from mamlcli.studies.claims.contrasts import CAPPED_LOSS, COLLAPSED, LOG_ODDS, LOSS, OPERATOR, CellValue
from mamlcli.studies.claims.decisions import log_odds
from mamlcli.studies.claims.plan import Family
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.layers.operators import movement_operator
from mamlcli.studies.layers.optimum import OperatorComparison, OptimumReport, compare_with_optimum
from mamlcli.studies.records import kept_record
from mamlcli.studies.sweeps.collapsed_control import loss_of_guessing, read_control
from mamlcli.studies.sweeps.folder import DEVICE
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks
from mamlcli.training.experiment import build
from mamlcli.training.trained import best_weights

# Tasks on which the operator of all inner steps together is fitted.
NUM_OPERATOR_TASKS = 600

# The scaled distance of an operator that has nothing of the best one, its largest; also of one that is not finite.
FARTHEST = 1.0

OPERATORS = "operators.json"

# What a training that diverged is told by in manifests of versions that did not note the kind of an error.
_DIVERGED_WORDS = "The inner loop diverged"


def study_of_family(family: Family, result: StudyResult) -> Study:
    """Read the scores of each seed of a family's values, which may have different numbers of seeds.

    A training that diverged at its value's inner rate scores as guessing does, and so does the control of its stack,
    which it does not have: left out, they would be missing for a reason that has to do with their score.

    Args:
        family: of the plan.
        result: of its sweep; runs of other seeds in the same folder are not read.
    """
    scores: dict[str, dict[str, dict[int, float]]] = {}
    operators: dict[str, list[OptimumReport]] = {}
    notes: list[str] = []
    guessing: float | None = None
    for key, seed, run in _runs(family, result):
        if guessing is None:
            guessing = guessing_loss(run.recipe)
        of_seed = _scores_of_seed(family, key, run, guessing)
        if family.role == "linear-regression":
            report = operator_report(run) if run.has_report else None
            operators.setdefault(key, []).extend([report] if report is not None and is_finite(report) else [])
            of_seed[key].by_measure[OPERATOR] = FARTHEST if report is None else scaled_distance(report)
        for value, of_value in of_seed.items():
            notes += [f"{family.words}, {value}, seed {seed}: {of_value.note}"] if of_value.note else []
            for measure, number in of_value.by_measure.items():
                scores.setdefault(measure, {}).setdefault(value, {})[seed] = number
    return Study(family.key, family.words, family.role, scores, result, operators, notes=tuple(notes))


@dataclass(frozen=True)
class SeedScores:
    """Seed scores are what one seed of a value scores.

    Attributes:
        by_measure: the scores.
        note: what is to be known of them, in words; empty for nothing.
    """

    by_measure: dict[str, float]
    note: str = ""


def _scores_of_seed(family: Family, key: str, run: RunDirectory, guessing: float) -> dict[str, SeedScores]:
    """Return the scores of a run, by its value's key, and of the control of its stack."""
    if not run.has_report:
        has_control = family.role in ("maml", "anil") and run.recipe.model.linear_layers > 0
        keys = [key, key + COLLAPSED] if has_control else [key]
        return {name: SeedScores(guessing_scores(run.recipe, guessing)) for name in keys}
    found = {key: scores_of_run(run, guessing)}
    if (control := read_control(run.path)) is not None:
        found[key + COLLAPSED] = _measures(control.loss, control.accuracy, control.capped_loss)
    return found


def _runs(family: Family, result: StudyResult) -> Iterator[tuple[str, int, RunDirectory]]:
    """Yield value key, seed and directory of every run that is scored or diverged."""
    finished: dict[tuple[str, int], Path] = {}
    for cell in result.cells:
        grid = cell.grid
        key = CellValue(grid.depth, grid.layers or 0, grid.optimizer, grid.width).key
        finished |= {(key, seed): Path(run) for seed, run in zip(cell.seeds, cell.run_dirs, strict=True)}
    for value in family.values:
        for seed in result.seeds:
            name = f"{value.key.replace(',', '').replace(' ', '-')}-seed-{seed}"
            path = finished.get((value.key, seed), Path(result.directory) / "cells" / name)
            if (value.key, seed) in finished or (is_run(path) and is_diverged(RunDirectory(path))):
                yield value.key, seed, RunDirectory(path)


def is_diverged(run: RunDirectory) -> bool:
    """Return whether a run's training diverged."""
    manifest = run.manifest
    if run.has_report or manifest.status != "failed":
        return False
    is_old = manifest.error is None and _DIVERGED_WORDS in (manifest.reason or "")
    return is_old or manifest.error == NonFiniteError.__name__


def guessing_loss(recipe: Recipe) -> float:
    """Return the query loss of guessing on a recipe's meta-test tasks: log(ways), or that of zero for regression."""
    tasks, split = recipe.scored_tasks, recipe.evaluation.split
    if isinstance(tasks, ImageKeys):
        return math.log(tasks.ways)
    # On the CPU, so that runs of another machine's device can be read here.
    return loss_of_guessing(build(on_cpu(recipe), splits=(split,)).distributions[split])


def on_cpu(recipe: Recipe) -> Recipe:
    """Return a recipe that computes on the CPU."""
    return changed_recipe(recipe, {DEVICE: "cpu"}, "evidence")


def guessing_scores(recipe: Recipe, guessing: float) -> dict[str, float]:
    """Return the scores of guessing, by measure."""
    accuracy = math.exp(-guessing) if recipe.is_classification else None
    return _measures(guessing, accuracy, guessing).by_measure


def scores_of_run(run: RunDirectory, guessing: float) -> SeedScores:
    """Return the scores of a run after its last inner step.

    Args:
        run: scored.
        guessing: query loss of guessing, at which each task's loss is capped.
    """
    final = run.read_report().final
    losses = run.read_scores()[:, -1, SCORE_COLUMNS.index("query_loss")]
    capped = np.minimum(np.nan_to_num(losses, nan=guessing, posinf=guessing), guessing)
    accuracy = final.mean("accuracy") if final.of("accuracy") is not None else None
    mean = final.mean("loss") if np.isfinite(losses).all() else math.nan
    return _measures(mean, accuracy, float(np.mean(capped)))


def _measures(loss: float, accuracy: float | None, capped_loss: float) -> SeedScores:
    """Return scores by measure.

    Where the loss of a task is not finite there is no mean loss. That of the capped losses takes its place: with the
    loss of guessing a model that fails on one task would be better than one that is poor on it.
    """
    is_mean = math.isfinite(loss)
    scores = {LOSS: loss if is_mean else capped_loss, CAPPED_LOSS: capped_loss}
    note = "" if is_mean else "the query loss of a task is not finite; each task's loss is capped at that of guessing"
    return SeedScores(scores if accuracy is None else {**scores, LOG_ODDS: float(log_odds(accuracy))}, note)


def scaled_distance(report: OptimumReport) -> float:
    """Return how far the learned operator is from the best one; the farthest where it is not finite."""
    operator = report.all_steps
    return operator.distance_scaled if operator is not None and math.isfinite(operator.distance_scaled) else FARTHEST


def is_finite(report: OptimumReport) -> bool:
    """Return whether the learned operators of a report are finite."""
    found = [operator for operator in report.comparisons.values() if operator is not None]
    return all(bool(np.isfinite(operator.operator).all()) for operator in found)


def operator_report(run: RunDirectory) -> OptimumReport:
    """Return a linear-regression run's learned operators beside the best one; kept with the run in operators.json."""
    if (kept := kept_record(run.path / OPERATORS, operators_from_json)) is not None:
        return kept
    recipe = run.recipe
    experiment = build(
        changed_recipe(recipe, {"execution.dtype": "float64", "execution.device": "cpu"}, "operators"),
        splits=(recipe.evaluation.split,),
    )
    experiment.use_threads()
    meta, _ = best_weights(run, experiment)
    meta = type(meta)(
        {name: value.double() for name, value in meta.model.items()},
        {name: value.double() for name, value in meta.transform.items()},
    )
    objective, meta = experiment.scoring_objective().with_learned_head(meta)
    distribution = experiment.distributions[recipe.evaluation.split]
    assert isinstance(distribution, LinearRegressionTasks)
    episodes = (
        sample_tasks(
            distribution, seed=recipe.evaluation.seed, split="operators", iteration=0, indices=range(i, i + 100)
        )
        for i in range(0, NUM_OPERATOR_TASKS, 100)
    )
    report = compare_with_optimum(
        objective,
        meta,
        distribution,
        episodes,
        Execution("batched", 100),
        total=movement_operator(objective.network, meta, objective.inner),
    )
    value = json.loads(json.dumps(asdict(report), default=lambda item: item.tolist()))
    run.write_json(OPERATORS, value)
    return report


def operators_from_json(value: Mapping[str, Any]) -> OptimumReport:
    """Return the learned operators in the content of operators.json; null for a number is NaN."""
    operators = {
        name: operator and OperatorComparison(**{key: _numbers(item) for key, item in operator.items()})
        for name, operator in value.items()
        if name != "all_steps_explained"
    }
    return OptimumReport(**operators, all_steps_explained=value["all_steps_explained"])


def _numbers(value: Any) -> Any:
    """Return a number or a matrix of JSON."""
    found = np.asarray(value, dtype=np.float64)
    return found if found.ndim else float(found)
