"""`mamlcli layers`: which layers of a trained run adapt, and what the upper ones do to gradients; as one report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mamlcli import analysis, operators
from mamlcli.analysis import Array, TaskStream
from mamlcli.bottom_update import bottom_updates
from mamlcli.build import Experiment, build
from mamlcli.estimators import MetaObjective, MetaParams
from mamlcli.execution import Execution
from mamlcli.linear_stack import COLLAPSE_TOLERANCE, parameter_counts
from mamlcli.models import Network, count_parameters
from mamlcli.recipe import Recipe
from mamlcli.recipe_files import recipe_from_tree, recipe_to_tree
from mamlcli.rundir import RunDirectory
from mamlcli.session import best_weights, protocol_of
from mamlcli.statistics import estimate, paired_difference
from mamlcli.tasks.synthetic import LinearRegressionTasks

# Query points of meta-train tasks that a head alone is fitted to: many times the features of the shipped recipes.
NUM_FIT_POINTS = 2000
# Features above which the factors of a stack (matrices of that size) are not worked out.
MAX_FEATURES = 2048


def layers_report(
    run: RunDirectory, *, device: str | None = None, num_tasks: int = 200, split: str | None = None
) -> dict[str, Any]:
    """Work out everything that `mamlcli layers` shows.

    Args:
        run: a trained run; its best checkpoint by meta-validation is studied, else the last.
        device: instead of the recipe's.
        num_tasks: tasks every mean is over, those that `mamlcli adapt` scores first.
        split: of these tasks, instead of the recipe's; the head alone is fitted on meta-train tasks in any case.

    Returns:
        run, recipe, weights, protocol; `movement`, `partial`, `operator` (None, and then `operator_note` says why),
        `bottom`, `collapse` (None where the head is one layer). Estimates are {"mean", "ci95_over_tasks"}.

    Raises:
        RunError: the run has no checkpoint; MamlError: a bad split or device; DataError: a split is missing.
    """
    tree = recipe_to_tree(run.recipe)
    if device is not None:
        tree["execution"]["device"] = device
    if split is not None:
        tree["evaluation"]["split"] = split
    recipe = recipe_from_tree(tree, where="mamlcli layers")
    split, steps = recipe.evaluation.split, recipe.evaluation.steps or recipe.inner.steps
    experiment = build(recipe, splits=tuple(dict.fromkeys((split, "train"))))
    meta, weights = best_weights(run, experiment)
    objective = experiment.objective(steps)
    how = experiment.execution(num_tasks=num_tasks, num_steps=0)
    tasks = _tasks(experiment, split, num_tasks, how)
    operator, note = _operator(experiment, objective, meta, tasks, how)
    return {
        "run": str(run.path),
        "recipe": run.name,
        "weights": weights,
        "protocol": protocol_of(recipe, split=split, num_tasks=num_tasks, num_steps=steps).to_json(),
        "movement": _movement(objective, meta, tasks, how),
        "partial": _partial(objective, meta, tasks, how),
        "operator": operator,
        "operator_note": note,
        "bottom": _bottom(experiment, objective, meta, tasks, how),
        "collapse": _collapse(objective, meta, tasks, how),
    }


def over_tasks(values: Array) -> dict[str, float | None]:
    """Return mean and 95 % half-width over tasks; None for numbers that do not exist."""
    found = estimate(values)
    return {
        "mean": found.mean if math.isfinite(found.mean) else None,
        "ci95_over_tasks": found.ci95 if math.isfinite(found.ci95) else None,
    }


def _tasks(experiment: Experiment, split: str, num_tasks: int, how: Execution) -> TaskStream:
    seed = experiment.recipe.evaluation.seed
    return TaskStream(experiment.distributions[split], seed, split, num_tasks, how.chunk)


def _movement(objective: MetaObjective, meta: MetaParams, tasks: TaskStream, how: Execution) -> list[dict[str, Any]]:
    found = analysis.layer_movement(objective, meta, tasks, how)
    relative = found.relative
    rows = []
    for index, layer in enumerate(found.layers):
        own = {name: value for name, value in meta.model.items() if analysis.layer_of(name) == layer}
        moving = {name: value for name, value in own.items() if name in objective.inner.adapted}
        rows.append(
            {
                "layer": layer,
                "num_parameters": count_parameters(own),
                "num_adapted": count_parameters(moving),
                "size": float(found.size[index]),
                "distance": over_tasks(found.distance[:, index]),
                "relative": over_tasks(relative[:, index]),
            }
        )
    return rows


def _partial(objective: MetaObjective, meta: MetaParams, tasks: TaskStream, how: Execution) -> list[dict[str, Any]]:
    found = analysis.partial_adaptation(objective, meta, tasks, how)
    full = found[-1]
    is_classification = tasks.distribution.is_classification
    rows = []
    for row in found:
        scores = {"loss": (row.loss, full.loss)}
        if is_classification:
            scores["accuracy"] = (row.accuracy, full.accuracy)
        less = {}
        for name, (own, whole) in scores.items():
            difference = paired_difference(own, whole)
            less[name] = {"mean": difference.mean, "ci95_over_tasks": difference.ci95}
        rows.append(
            {
                "part": row.part,
                "num_layers": row.num_layers,
                "layers": list(row.layers),
                **{name: over_tasks(own) for name, (own, _) in scores.items()},
                "minus_all_layers": less,
            }
        )
    return rows


def _operator(
    experiment: Experiment, objective: MetaObjective, meta: MetaParams, tasks: TaskStream, how: Execution
) -> tuple[dict[str, Any] | None, str | None]:
    """Return the part on operators and a note; without a part the note says why."""
    distribution, network = tasks.distribution, objective.network
    has_optimum = isinstance(distribution, LinearRegressionTasks) and _is_linear(network)
    if not (has_optimum or operators.has_operator(objective)):
        return None, "The head is one linear layer: no other layer transforms its gradient."
    if not any(name in objective.inner.adapted for name in network.head_parameter_names()):
        return None, "No layer of the head adapts."
    if (num_features := meta.model["head.0.weight"].shape[1]) > MAX_FEATURES:
        return None, f"The head has {num_features} features, above {MAX_FEATURES}: its operators are too large."
    total = operators.movement_operator(network, meta, objective.inner)
    factors = operators.layer_factors(network, meta.model, objective.inner.adapted)
    part = {
        "inner_lr": objective.inner.lr,
        "transform": experiment.recipe.inner.transform.name,
        "layers": [
            {
                "layer": layer.layer,
                "share": layer.share,
                "left_spectrum": layer.left_spectrum.tolist(),
                "right_spectrum": layer.right_spectrum.tolist(),
            }
            for layer in factors
        ],
        "spectrum": None if total is None else np.linalg.svd(total, compute_uv=False).tolist(),
        "optimum": None,
    }
    if isinstance(distribution, LinearRegressionTasks) and has_optimum:
        found = operators.compare_with_optimum(objective, meta, distribution, tasks, how, total=total)
        part["optimum"] = _optimum(found)
    note = None
    if total is None:
        is_linear = part["transform"] != "kfo-mlp"
        why = f"it is larger than {operators.MAX_OPERATOR_SIZE}" if is_linear else "kfo-mlp is not linear"
        note = f"Not shown for all layers together: {why}."
    return part, note


def _is_linear(network: Network) -> bool:
    return next(network.body.parameters(), None) is None


def _optimum(found: operators.OptimumReport) -> dict[str, Any]:
    def row(value: operators.OperatorComparison | None) -> dict[str, Any] | None:
        if value is None:
            return None
        return {
            "distance": value.distance,
            "scale": value.scale,
            "distance_scaled": value.distance_scaled,
            "loss_as_one_step": value.loss,
            "spectrum": np.linalg.svd(value.operator, compute_uv=False).tolist(),
        }

    names = ("plain", "one_step", "all_steps", "optimal")
    return {
        **{name: row(getattr(found, name)) for name in names},
        "all_steps_explained": found.all_steps_explained,
    }


def _bottom(
    experiment: Experiment, objective: MetaObjective, meta: MetaParams, tasks: TaskStream, how: Execution
) -> list[dict[str, Any]]:
    num_body = len([layer for layer in analysis.layer_names(objective.network) if layer.startswith("body.")])
    fit = _tasks(experiment, "train", _num_fit_tasks(experiment.recipe), how)
    return [
        {
            "num_layers": len(row.layers),
            "layers": list(row.layers),
            "upper_is_linear": len(row.layers) >= num_body,
            "num_features": row.num_features,
            "rank": row.rank,
            "num_points": row.num_points,
            "explained": row.explained if math.isfinite(row.explained) else None,
            "angle_deg": over_tasks(np.degrees(row.angle_rad)),
            "length_ratio": over_tasks(row.length_ratio),
        }
        for row in bottom_updates(objective, meta, tasks, fit, how)
    ]


def _num_fit_tasks(recipe: Recipe) -> int:
    per_task = recipe.tasks.queries * getattr(recipe.tasks, "ways", 1)
    return math.ceil(NUM_FIT_POINTS / per_task)


def _collapse(objective: MetaObjective, meta: MetaParams, tasks: TaskStream, how: Execution) -> dict[str, Any] | None:
    if len(objective.network.head) == 1:
        return None
    found = analysis.collapse_check(objective, meta, tasks, how)
    trained, collapsed = parameter_counts(objective.network, meta.model)
    return {
        "num_parameters": trained,
        "num_parameters_collapsed": collapsed,
        "max_difference": float(found.absolute.max()),
        "max_relative_difference": float(found.relative.max()),
        "tolerance": COLLAPSE_TOLERANCE[next(iter(meta.model.values())).dtype],
    }
