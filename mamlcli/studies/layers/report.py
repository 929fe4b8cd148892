"""All that `mamlcli layers` finds out about a trained run is worked out here, on the same tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mamlcli.common.commands import command
from mamlcli.common.errors import MamlError
from mamlcli.common.statistics import estimate, paired_difference
from mamlcli.engine.evaluation import Array, TaskStream
from mamlcli.engine.execution import Execution
from mamlcli.engine.linear_stack import COLLAPSE_TOLERANCE, parameter_counts
from mamlcli.engine.networks import Network
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.engine.sizes import count_parameters
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.layers import movement, operators
from mamlcli.studies.layers.head_alone import bottom_updates
from mamlcli.studies.layers.optimum import compare_with_optimum
from mamlcli.studies.layers.results import (
    BottomRow,
    CollapseReport,
    LayersReport,
    MovementRow,
    OperatorReport,
    PartialRow,
    PartScore,
)
from mamlcli.studies.sweeps import collapsed
from mamlcli.tasks.episodes import TaskDistribution
from mamlcli.tasks.synthetic import LinearRegressionTasks
from mamlcli.training.experiment import Experiment
from mamlcli.training.scoring import evaluation_stream, protocol_of
from mamlcli.training.trained import num_inner_steps, open_trained, recipe_elsewhere

# Query points of meta-train tasks that a head alone is fitted to: many times the features of the shipped recipes.
NUM_FIT_POINTS = 2000

# Features above which the factors of a stack (matrices of that size) are not worked out.
MAX_FEATURES = 2048


def layers_report(
    run: RunDirectory,
    *,
    device: str | None = None,
    num_tasks: int = 200,
    split: str | None = None,
    changes: Sequence[str] = (),
) -> LayersReport:
    """Work out everything that `mamlcli layers` shows.

    Args:
        run: a trained run; its best checkpoint by meta-validation is studied, else the last.
        device: instead of the recipe's.
        num_tasks: tasks every mean is over, those that `mamlcli adapt` scores first.
        split: of these tasks, instead of the recipe's; the head alone is fitted on meta-train tasks in any case.
        changes: words `tasks.path=PLACE`: where its data are now.

    Raises:
        RunError: the run has no checkpoint; MamlError: a bad split or device, or a network that is not
            mamlcli's; DataError: a split is missing.
    """
    recipe = recipe_elsewhere(run, where="mamlcli layers", device=device, split=split, changes=changes)
    if recipe.execution.device == "mps":  # which has no float64
        recipe = recipe_elsewhere(run, where="mamlcli layers", device="cpu", split=split, changes=changes)
    _check_known(recipe)
    split, steps = recipe.evaluation.split, num_inner_steps(recipe)
    trained = open_trained(run, recipe, splits=tuple(dict.fromkeys((split, "train"))))
    experiment = trained.experiment
    # What is studied is phi_0 and how it moves: an output layer that starts at zero or shared is one like any other.
    objective, meta = experiment.scoring_objective(steps).with_learned_head(trained.meta)
    how = experiment.execution(num_tasks=num_tasks, num_steps=0)
    tasks = _tasks(experiment, experiment.distributions[split], split, num_tasks, how)
    operator, note = _operator(recipe, objective, meta, tasks, how)
    assert experiment.training is not None, "the split train was asked for"
    fit_tasks = _tasks(experiment, experiment.training, "train", _num_fit_tasks(recipe), how)
    return LayersReport(
        run=str(run.path),
        recipe=run.name,
        weights=trained.weights,
        protocol=protocol_of(recipe, split=split, num_tasks=num_tasks, num_steps=steps),
        movement=_movement(objective, meta, tasks, how),
        partial=_partial(objective, meta, tasks, how),
        operator=operator,
        operator_note=note,
        bottom=_bottom(objective, meta, tasks, fit_tasks, how),
        collapse=_collapse(objective, meta, tasks, how),
    )


def _check_known(recipe: Recipe) -> None:
    if isinstance(recipe.model, OutsideModel):
        raise MamlError(
            f"model.kind={recipe.model.kind}",
            expected="a run of a network of mamlcli's own, whose layers and their order are known",
            got="one whose code is not mamlcli's",
            next_step=f"Networks of its own: {command('recipes', 'ls')}",
        )


def _tasks(
    experiment: Experiment, distribution: TaskDistribution, split: str, num_tasks: int, how: Execution
) -> TaskStream:
    stream = evaluation_stream(split)
    return TaskStream(distribution, experiment.recipe.evaluation.seed, stream, num_tasks, how.chunk)


def _movement(objective: MetaObjective, meta: MetaParams, tasks: TaskStream, how: Execution) -> tuple[MovementRow, ...]:
    moved = movement.layer_movement(objective, meta, tasks, how)
    relative = moved.relative
    rows = []
    for index, layer in enumerate(moved.layers):
        params = {name: value for name, value in meta.model.items() if movement.layer_of(name) == layer}
        moving = {name: value for name, value in params.items() if name in objective.inner.adapted}
        rows.append(
            MovementRow(
                layer=layer,
                num_parameters=count_parameters(params),
                num_adapted=count_parameters(moving),
                size=float(moved.size[index]),
                distance=estimate(moved.distance[:, index]),
                relative=estimate(relative[:, index]),
            )
        )
    return tuple(rows)


def _partial(objective: MetaObjective, meta: MetaParams, tasks: TaskStream, how: Execution) -> tuple[PartialRow, ...]:
    scores = movement.partial_adaptation(objective, meta, tasks, how)
    full = scores[-1]
    has_accuracy = tasks.distribution.is_classification

    def compared(values: Array, with_all: Array) -> PartScore:
        return PartScore(estimate(values), paired_difference(values, with_all))

    return tuple(
        PartialRow(
            part=row.part,
            num_layers=row.num_layers,
            layers=row.layers,
            loss=compared(row.loss, full.loss),
            accuracy=compared(row.accuracy, full.accuracy) if has_accuracy else None,
        )
        for row in scores
    )


def _operator(
    recipe: Recipe, objective: MetaObjective, meta: MetaParams, tasks: TaskStream, how: Execution
) -> tuple[OperatorReport | None, str | None]:
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
    optimum = None
    if isinstance(distribution, LinearRegressionTasks) and has_optimum:
        optimum = compare_with_optimum(objective, meta, distribution, tasks, how, total=total)
    transform: str = recipe.inner.transform.name
    if recipe.inner.rates != "fixed":
        transform = "learned rates" if transform == "none" else f"{transform}, learned rates"
    part = OperatorReport(
        inner_lr=objective.inner.lr,
        transform=transform,
        layers=tuple(operators.layer_factors(network, meta.model, objective.inner.adapted)),
        spectrum=None if total is None else np.asarray(np.linalg.svd(total, compute_uv=False), dtype=np.float64),
        optimum=optimum,
    )
    if total is not None:
        return part, None
    is_large = operators.has_linear_updates(objective)
    why = f"it is larger than {operators.MAX_OPERATOR_SIZE}" if is_large else f"{transform} is not linear"
    return part, f"Not shown for all layers together: {why}."


def _is_linear(network: Network) -> bool:
    return next(network.body.parameters(), None) is None


def _bottom(
    objective: MetaObjective, meta: MetaParams, tasks: TaskStream, fit_tasks: TaskStream, how: Execution
) -> tuple[BottomRow, ...]:
    num_body = len([layer for layer in movement.layer_names(objective.network) if layer.startswith("body.")])
    return tuple(
        BottomRow(
            layers=update.layers,
            upper_is_linear=len(update.layers) >= num_body,
            num_features=update.num_features,
            rank=update.rank,
            num_points=update.num_points,
            explained=update.explained if math.isfinite(update.explained) else None,
            angle_deg=estimate(np.degrees(update.angle_rad)),
            length_ratio=estimate(update.length_ratio),
        )
        for update in bottom_updates(objective, meta, tasks, fit_tasks, how)
    )


def _num_fit_tasks(recipe: Recipe) -> int:
    per_task = recipe.tasks.queries * getattr(recipe.tasks, "ways", 1)
    return math.ceil(NUM_FIT_POINTS / per_task)


def _collapse(objective: MetaObjective, meta: MetaParams, tasks: TaskStream, how: Execution) -> CollapseReport | None:
    if len(objective.network.head) == 1:
        return None
    check = collapsed.collapse_check(objective, meta, tasks, how)
    num_trained, num_collapsed = parameter_counts(objective.network, meta.model)
    return CollapseReport(
        num_parameters=num_trained,
        num_parameters_collapsed=num_collapsed,
        max_difference=float(check.absolute.max()),
        max_relative_difference=float(check.relative.max()),
        tolerance=COLLAPSE_TOLERANCE[next(iter(meta.model.values())).dtype],
    )
