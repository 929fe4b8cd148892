"""Finished studies become the evidence of each claim."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mamlcli.engine.execution import Execution
from mamlcli.recipe.changes import changed_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims import claims, predictions
from mamlcli.studies.claims.predictions import ClaimResult, Study, value_key
from mamlcli.studies.claims.scales import OPTIMIZER, Family, Scale
from mamlcli.studies.layers.operators import movement_operator
from mamlcli.studies.layers.optimum import OperatorComparison, OptimumReport, compare_with_optimum
from mamlcli.studies.sweeps.cell_result import CellResult, FixedRateScores
from mamlcli.studies.sweeps.collection import final_scores, mean_scores
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.scores import METRICS, StudyScores
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks
from mamlcli.training.experiment import build
from mamlcli.training.trained import best_weights

# Tasks on which the operator of all inner steps together is fitted.
NUM_OPERATOR_TASKS = 600


def study_of_family(family: Family, result: StudyResult, num_seeds: int, *, fixed_rate: float) -> Study:
    """Read the scores of each seed; values of which a seed is missing are left out."""
    scores: dict[str, dict[str, predictions.Array]] = {"loss": {}, "accuracy": {}}
    operators: dict[str, list[OptimumReport]] = {}
    cells = []
    for cell in result.cells:
        if len(cell.seeds) < num_seeds:
            cells.append(cell)
            continue
        key = value_key(cell.grid.depth, cell.grid.layers or 0, cell.grid.optimizer)
        runs = [RunDirectory.open(Path(run)) for run in cell.run_dirs]
        finals = [final_scores(run.read_report()) for run in runs]
        for metric, by_value in scores.items():
            if metric in finals[0]:
                by_value[key] = np.array([final.mean(metric) for final in finals], dtype=np.float64)
        if family.key == "linear-regression":
            operators[key] = [operator_report(run) for run in runs]
        cells.append(replace(cell, at_fixed_rate=_at_rate(cell, fixed_rate)))
    return Study(family.key, family.words, scores, replace(result, cells=tuple(cells)), operators)


def _at_rate(cell: CellResult, rate: float) -> FixedRateScores:
    """Return rate and final scores, over seeds, of a cell's runs at another inner rate; no scores if they diverged."""
    chosen, wanted = f"-lr{cell.inner_lr:g}-seed", f"-lr{rate:g}-seed"
    paths = [Path(run) for run in cell.run_dirs]
    fixed = [RunDirectory(path.with_name(path.name.replace(chosen, wanted))) for path in paths]
    if not all(run.has_report for run in fixed):
        return FixedRateScores(rate, None)
    return FixedRateScores(rate, mean_scores([StudyScores.of_run(run.read_report().final, METRICS) for run in fixed]))


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


def decide_claims(scale: Scale, studies: Sequence[Study]) -> list[ClaimResult]:
    """Decide every claim of the paper, as far as a scale looks at it."""
    by_key = {study.key: study for study in studies}
    synthetic = [by_key[key] for key in scale.deeper if key in by_key]
    maml = [study for study in studies if study.key.endswith("-maml")]
    anil = [study for study in studies if study.key.endswith("-anil")]
    pairs = {key: (value_key(depth), value_key(1)) for key, depth in scale.deeper.items()}
    return [
        claims.c1(synthetic, pairs),
        claims.c2(maml, scale.depths),
        claims.c3(maml, scale.layers),
        claims.c4(maml, scale.optimizers),
        claims.c5(maml, scale.depths, OPTIMIZER),
        claims.c6(anil, scale.depths, scale.anil_layers, OPTIMIZER),
        claims.c7(by_key.get("linear-regression")),
    ]


def reproduction_to_json(scale: Scale, results: Sequence[ClaimResult], studies: Sequence[Study]) -> dict[str, object]:
    """Return the machine-readable form: scale, claims with verdict and evidence, studies."""
    return {
        "scale": scale.name,
        "num_seeds": scale.num_seeds,
        "claims": [
            {"id": result.id, "statement": result.statement, "verdict": result.verdict, "evidence": evidence(result)}
            for result in results
        ],
        "studies": {study.key: study.result.to_json() for study in studies},
    }


def evidence(result: ClaimResult) -> dict[str, object]:
    """Return what a verdict rests on, primitives."""
    return {
        "rule": result.rule,
        "predictions": [
            {
                "name": decision.prediction.name,
                "predicted_sign": decision.prediction.predicted_sign,
                "differences": decision.prediction.differences.tolist(),
                "mean": decision.mean,
                "half_width": decision.half_width,
                "level": decision.level,
                "p_value": decision.p_value,
                "verdict": decision.verdict,
                "seeds_needed": decision.seeds_needed,
            }
            for decision in result.decisions
        ],
        "checks": [{**asdict(check), "holds": check.holds} for check in result.checks],
        "missing": result.missing,
        "notes": result.notes,
    }


def operators_from_json(value: Mapping[str, Any]) -> OptimumReport:
    """Return the learned operators in the content of operators.json."""
    operators = {
        name: operator and OperatorComparison(**{**operator, "operator": np.asarray(operator["operator"])})
        for name, operator in value.items()
        if name != "all_steps_explained"
    }
    return OptimumReport(**operators, all_steps_explained=value["all_steps_explained"])
