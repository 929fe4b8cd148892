"""Finished studies become scores by seed: the evidence of each claim."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mamlcli.engine.execution import Execution
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ImageKeys
from mamlcli.runs.folder import RunDirectory, is_run
from mamlcli.runs.scores_table import SCORE_COLUMNS
from mamlcli.studies.claims.contrasts import CAPPED_LOSS, COLLAPSED, LOG_ODDS, LOSS, OPERATOR, CellValue
from mamlcli.studies.claims.decisions import log_odds
from mamlcli.studies.claims.plan import Family
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.layers.operators import movement_operator
from mamlcli.studies.layers.optimum import OperatorComparison, OptimumReport, compare_with_optimum
from mamlcli.studies.sweeps.collapsed_control import loss_of_guessing, read_control
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks
from mamlcli.training.experiment import build
from mamlcli.training.trained import best_weights

# Tasks on which the operator of all inner steps together is fitted.
NUM_OPERATOR_TASKS = 600

# The scaled distance of an operator that has nothing of the best one, its largest.
FARTHEST = 1.0


def study_of_family(family: Family, result: StudyResult) -> Study:
    """Read the scores of each seed of a family's values, which may have different numbers of seeds.

    A training that diverged at its value's inner rate scores as guessing does: left out, it would be missing for a
    reason that has to do with its score.

    Args:
        family: of the plan.
        result: of its sweep; runs of other seeds in the same folder are not read.
    """
    scores: dict[str, dict[str, dict[int, float]]] = {}
    operators: dict[str, list[OptimumReport]] = {}
    guessing: float | None = None
    for key, seed, run in _runs(family, result):
        if guessing is None:
            guessing = guessing_loss(run.recipe)
        of_seed = {key: scores_of_run(run, guessing) if run.has_report else guessing_scores(run.recipe, guessing)}
        if run.has_report and (control := read_control(run.path)) is not None:
            of_seed[key + COLLAPSED] = _measures(control.loss, control.accuracy, control.capped_loss, guessing)
        if family.role == "linear-regression":
            report = operator_report(run) if run.has_report else None
            operators.setdefault(key, []).extend([report] if report else [])
            of_seed[key][OPERATOR] = FARTHEST if report is None else _scaled_distance(report)
        for value, by_measure in of_seed.items():
            for measure, number in by_measure.items():
                scores.setdefault(measure, {}).setdefault(value, {})[seed] = number
    return Study(family.key, family.words, family.role, scores, result, operators)


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
    return not run.has_report and run.manifest.status == "failed" and "diverged" in (run.manifest.reason or "")


def guessing_loss(recipe: Recipe) -> float:
    """Return the query loss of guessing on a recipe's meta-test tasks: log(ways), or that of zero for regression."""
    tasks, split = recipe.scored_tasks, recipe.evaluation.split
    if isinstance(tasks, ImageKeys):
        return math.log(tasks.ways)
    return loss_of_guessing(build(recipe, splits=(split,)).distributions[split])


def guessing_scores(recipe: Recipe, guessing: float) -> dict[str, float]:
    """Return the scores of guessing, by measure."""
    accuracy = math.exp(-guessing) if recipe.is_classification else None
    return _measures(guessing, accuracy, guessing, guessing)


def scores_of_run(run: RunDirectory, guessing: float) -> dict[str, float]:
    """Return the scores of a run after its last inner step, by measure.

    Args:
        run: scored.
        guessing: query loss of guessing, at which each task's loss is capped.
    """
    final = run.read_report().final
    losses = run.read_scores()[:, -1, SCORE_COLUMNS.index("query_loss")]
    capped = np.minimum(np.nan_to_num(losses, nan=guessing, posinf=guessing), guessing)
    accuracy = final.mean("accuracy") if final.of("accuracy") is not None else None
    return _measures(final.mean("loss"), accuracy, float(np.mean(capped)), guessing)


def _measures(loss: float, accuracy: float | None, capped_loss: float, guessing: float) -> dict[str, float]:
    """Return scores by measure; a mean loss that is no number is that of a model that diverged on a task."""
    scores = {LOSS: loss if math.isfinite(loss) else guessing, CAPPED_LOSS: capped_loss}
    return scores if accuracy is None else {**scores, LOG_ODDS: float(log_odds(accuracy))}


def _scaled_distance(report: OptimumReport) -> float:
    operator = report.all_steps
    assert operator is not None, "enough tasks are drawn"
    return float(operator.distance_scaled)


def operator_report(run: RunDirectory) -> OptimumReport:
    """Return a linear-regression run's learned operators beside the best one; kept with the run in operators.json."""
    file = run.path / "operators.json"
    if file.is_file():
        return operators_from_json(json.loads(file.read_text()))
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
    run.write_json("operators.json", value)
    return report


def operators_from_json(value: Mapping[str, Any]) -> OptimumReport:
    """Return the learned operators in the content of operators.json."""
    operators = {
        name: operator and OperatorComparison(**{**operator, "operator": np.asarray(operator["operator"])})
        for name, operator in value.items()
        if name != "all_steps_explained"
    }
    return OptimumReport(**operators, all_steps_explained=value["all_steps_explained"])
