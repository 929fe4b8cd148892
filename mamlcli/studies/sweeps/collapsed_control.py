"""A meta-learned stack is collapsed into one layer before it adapts: the control of appended linear layers.

The collapsed model starts from the same function as the stack, and adapts as a shallow network, at the inner learning
rate that is best for it. What it lacks is the layers during adaptation, so what it loses is what they do there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mamlcli.common.errors import RunError
from mamlcli.engine.evaluation import Evaluation
from mamlcli.engine.linear_stack import collapse_head
from mamlcli.engine.objective import MetaParams
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.records import kept_record, read_record
from mamlcli.studies.sweeps.sweep import DEPTH, LAYERS
from mamlcli.tasks.episodes import TaskDistribution
from mamlcli.tasks.synthetic import LinearRegressionTasks
from mamlcli.training.experiment import Experiment, build
from mamlcli.training.scoring import SELECTION_STREAM, ScoredTasks, evaluation_tasks, score
from mamlcli.training.trained import best_weights

CONTROL = "control.json"

# The grid of inner learning rates: 0.1 to 3.2 in factors of two; it grows while its best is at an end, at most this
# often, as a model whose loss does not depend on the rate has no best. Where every rate diverges it goes down to 1e-4.
FIRST_RATE, NUM_RATES, MOST_GROWTH, LOWEST_RATE = 0.1, 6, 12, 1e-4


@dataclass(frozen=True)
class ControlRecord:
    """A control record says how well a stack does that was collapsed before it adapted; control.json holds it.

    Attributes:
        tried: (inner learning rate, query loss on meta-validation tasks) in growing order; NaN for a loss that is
            not finite.
        inner_lr: the rate chosen, that of the lowest loss.
        num_validation_tasks: that the rate was chosen on.
        num_tasks: meta-test tasks that the scores are means over, those of the run.
        loss: query loss after adaptation; NaN where it is not finite.
        accuracy: on query sets; None for regression.
        capped_loss: query loss, each task's capped at that of guessing.
        wall_s: seconds of the control; 0 where an earlier version did not note them.
    """

    tried: tuple[tuple[float, float], ...]
    inner_lr: float
    num_validation_tasks: int
    num_tasks: int
    loss: float
    accuracy: float | None
    capped_loss: float
    wall_s: float = 0.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ControlRecord:
        """Return the record in a JSON object."""
        tried = tuple((item["inner_lr"], _or_nan(item["validation_loss"])) for item in value["tried"])
        return cls(**{**value, "tried": tried, "loss": _or_nan(value["loss"])})

    def to_json(self) -> dict[str, object]:
        """Return the record as control.json holds it."""
        tried = [{"inner_lr": rate, "validation_loss": _or_none(loss)} for rate, loss in self.tried]
        return {**vars(self), "tried": tried, "loss": _or_none(self.loss)}


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_control(run: RunDirectory, num_validation_tasks: int) -> None:
    """Write a trained run's control to control.json, unless it is there or the run has no linear layers."""
    if not is_control_kept(run.path):
        began = time.monotonic()
        record = control_record(run, num_validation_tasks)
        run.write_json(CONTROL, replace(record, wall_s=round(time.monotonic() - began, 1)).to_json())


def has_control(path: Path) -> bool:
    """Return whether a run directory holds its control, or needs none, as no linear layers were appended."""
    return (path / CONTROL).is_file() or getattr(RunDirectory(path).recipe.model, "linear_layers", 0) == 0


def is_control_kept(path: Path) -> bool:
    """Return whether nothing is left to do for a run's control: it can be read, or none is needed."""
    return has_control(path) and (
        not (path / CONTROL).is_file() or kept_record(path / CONTROL, ControlRecord.from_json) is not None
    )


def read_control(path: Path) -> ControlRecord | None:
    """Return the control in a run directory; None where there is none.

    Raises:
        RunError: control.json is damaged.
    """
    file = path / CONTROL
    return read_record(file, ControlRecord.from_json) if file.is_file() else None


def control_record(run: RunDirectory, num_validation_tasks: int) -> ControlRecord:
    """Collapse a run's meta-learned stack into one layer, adapt it at its own best rate, and score it.

    E = W_L ... W_1 at the meta-parameters, before any task; then phi_{k+1} = phi_k - alpha grad L_S(phi_k) with body
    and E, for as many steps and on the same meta-test tasks as the run. alpha is chosen for this run alone.

    Args:
        run: trained, with appended linear layers.
        num_validation_tasks: that each alpha is tried on, of meta-validation, keyed by `evaluation.seed`.

    Raises:
        RunError: the run has no appended linear layers, or no checkpoint.

    Source: ours, a control of Arnold et al. 2021, arXiv 1910.13603, section 3: the stack and its collapsed model are
        the same function, so that only their adaptation differs.
    """
    recipe = run.recipe
    if getattr(recipe.model, "linear_layers", 0) == 0:
        raise RunError(
            run.label,
            expected="a run with appended linear layers",
            got=f"{LAYERS}=0",
            next_step="Train one with model.linear_layers=1",
        )
    experiment = build(recipe, splits=tuple(dict.fromkeys((recipe.validation_split, recipe.evaluation.split))))
    experiment.use_threads()
    meta, _ = best_weights(run, experiment)
    network, params = collapse_head(experiment.network, experiment.objective().start(meta.model))
    collapsed = MetaParams(params, {})

    def at_rate(rate: float) -> Experiment:
        return replace(experiment, recipe=shallow_recipe(recipe, {"inner.lr": rate}), network=network)

    selection = ScoredTasks(
        recipe.validation_split,
        num_validation_tasks,
        num_steps=evaluation_tasks(recipe).num_steps,
        stream=SELECTION_STREAM,
        with_references=False,
    )
    tried = best_rate(lambda rate: _mean_loss(score(at_rate(rate), [collapsed], selection)[0]))
    rate = min(tried, key=tried.__getitem__)
    [scores] = score(at_rate(rate), [collapsed], replace(evaluation_tasks(recipe), with_references=False))
    loss, accuracy = scores.column("query_loss", -1), scores.column("query_accuracy", -1)
    guessing = loss_of_guessing(experiment.distributions[recipe.evaluation.split])
    return ControlRecord(
        tried=tuple((rate, value if math.isfinite(value) else math.nan) for rate, value in sorted(tried.items())),
        inner_lr=rate,
        num_validation_tasks=num_validation_tasks,
        num_tasks=len(loss),
        loss=_mean_loss(scores) if np.isfinite(loss).all() else math.nan,
        accuracy=float(accuracy.mean()) if scores.is_classification else None,
        # A task whose loss is no number is no better than guessing.
        capped_loss=float(np.minimum(np.nan_to_num(loss, nan=guessing, posinf=guessing), guessing).mean()),
    )


def shallow_recipe(recipe: Recipe, changes: Mapping[str, object]) -> Recipe:
    """Return the recipe of a run's collapsed model: the shallow network, all of whose start is learned."""
    keys: dict[str, object] = {
        LAYERS: 0,
        "model.linear_width": None,
        "inner.transform": {"name": "none"},
        "inner.rates": "fixed",
        "inner.head": "learned",
    }
    shallow = keys | ({DEPTH: 1} if recipe.model.kind == "linear" else {})
    return changed_recipe(recipe, {**shallow, **changes}, "collapsed")


def _mean_loss(scores: Evaluation) -> float:
    """Return the mean query loss after the last step; infinite where it does not exist."""
    mean = scores.estimate("query_loss", -1).mean
    return mean if math.isfinite(mean) else math.inf


def best_rate(loss_at: Callable[[float], float]) -> dict[float, float]:
    """Return the loss at every inner learning rate tried; the lowest is the best.

    0.1 to 3.2 in factors of two, and on while the best is at an end of the grid; then once sqrt(2) to either side
    of the best. Where all rates diverge only lower ones are of use: on down to 1e-4, until one does not.

    Args:
        loss_at: the loss at a rate; infinite where it diverges.
    """
    tried = {rate: loss_at(rate) for rate in (FIRST_RATE * 2.0**k for k in range(NUM_RATES))}
    while all(map(math.isinf, tried.values())) and min(tried) / 2 >= LOWEST_RATE:
        lower = min(tried) / 2
        tried[lower] = loss_at(lower)
    for _ in range(MOST_GROWTH):
        low, high, best = min(tried), max(tried), min(tried, key=tried.__getitem__)
        if best not in (low, high) or not math.isfinite(tried[best]):
            break
        new = low / 2 if best == low else high * 2
        tried[new] = loss_at(new)
    best = min(tried, key=tried.__getitem__)
    for rate in (best / math.sqrt(2.0), best * math.sqrt(2.0)):
        tried[rate] = loss_at(rate)
    return tried


def loss_of_guessing(distribution: TaskDistribution) -> float:
    """Return the query loss, in nats or half squared error, of the best answer that does not look at the inputs.

    log(ways) for classes that are equally frequent; (tr(Sx St) + noise^2) / 2, the loss of zero, for linear
    regression; infinite, so no cap, where it is not known.
    """
    if distribution.is_classification:
        return math.log(distribution.num_outputs)
    if isinstance(distribution, LinearRegressionTasks):
        signal = float((distribution.input_covariance() @ distribution.task_covariance()).trace())
        return (signal + distribution.noise**2) / 2
    return math.inf
