"""Measures what a run would cost, on a few meta-iterations of it; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from mamlcli.common.machine import peak_memory_mb, synchronize
from mamlcli.engine.sizes import count_parameters
from mamlcli.recipe.schema import Recipe
from mamlcli.training.data_notes import data_notes
from mamlcli.training.experiment import Experiment, build
from mamlcli.training.functions import splits_of_training, training_execution, training_functions
from mamlcli.training.manifest import ExecutionRecord, execution_record
from mamlcli.training.scoring import ScoredTasks, score

# Tasks of a meta-batch and inner steps that are measured; the time of more is worked out.
_MOST_MEASURED = 500


@dataclass(frozen=True)
class RunCost:
    """What a run would cost on this machine.

    Attributes:
        device: where it was measured.
        num_parameters, num_transform_parameters: numbers in theta and in xi.
        seconds_per_iteration: of one meta-iteration, in the mean of those with a multi-step loss and those without.
        training_s, evaluation_s: seconds of training, with its validations, and of the final evaluation.
        peak_memory_mb: of this process so far; None where it is not known.
        execution: how the run would be computed.
        notes: what to know of the data, in sentences.
    """

    device: str
    num_parameters: int
    num_transform_parameters: int
    seconds_per_iteration: float
    training_s: float
    evaluation_s: float
    peak_memory_mb: float | None
    execution: ExecutionRecord
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the machine-readable form, as `mamlcli train --dry-run --json` has it."""
        return {**vars(self), "execution": self.execution.to_json(), "notes": list(self.notes)}


def dry_run(recipe: Recipe, *, with_probe: bool = True) -> RunCost:
    """Return what a run of the recipe would cost, measured on a few meta-iterations of it.

    Args:
        recipe: resolved.
        with_probe: whether the run's evaluation fits linear probes, as that of `train` does and of studies does not.
    """
    whole = build(recipe, splits=splits_of_training(recipe))
    whole.use_threads()
    how, num_transform = training_execution(whole), count_parameters(whole.initial_meta().transform)
    experiment, times, times_scored = _measured(whole)
    meta = experiment.initial_meta()
    gradients, _ = training_functions([experiment], training_execution(experiment))
    gradients([0], [meta], 0)  # warms caches up

    def seconds_at(iteration: int) -> float:
        return times * min(_timed(lambda: gradients([0], [meta], iteration), experiment.device) for _ in range(2))

    num_weighted = min(recipe.outer.multi_step_loss or 0, recipe.outer.iterations)
    share = num_weighted / recipe.outer.iterations
    kinds = ((share, 0), (1 - share, num_weighted))
    per_iteration = sum(part * seconds_at(iteration) for part, iteration in kinds if part)
    sample = ScoredTasks(recipe.evaluation.split, min(20, recipe.evaluation.tasks), with_probe=with_probe)
    per_task = times_scored * _timed(lambda: score(experiment, [meta], sample), experiment.device) / sample.num_tasks
    validations = recipe.outer.iterations // recipe.validation.every if recipe.validation.every else 0
    return RunCost(
        device=str(experiment.device),
        num_parameters=count_parameters(meta.model),
        num_transform_parameters=num_transform,
        seconds_per_iteration=per_iteration,
        training_s=per_iteration * recipe.outer.iterations + per_task * validations * recipe.validation.tasks,
        evaluation_s=per_task * recipe.evaluation.tasks,
        peak_memory_mb=peak_memory_mb(experiment.device),
        execution=execution_record(whole, how),
        notes=tuple(data_notes(recipe, experiment.data, is_recorded=False)),
    )


def _measured(whole: Experiment) -> tuple[Experiment, float, float]:
    """Return an experiment of at most so many tasks and steps as are measured in seconds, and how far it is smaller.

    Time grows with tasks and steps. Returns the experiment, then the factors of a meta-iteration and of a scored task.
    """
    recipe = whole.recipe
    steps_scored = recipe.evaluation.steps or recipe.inner.steps
    num_tasks, num_steps = min(recipe.outer.tasks, _MOST_MEASURED), min(recipe.inner.steps, _MOST_MEASURED)
    num_scored = min(steps_scored, _MOST_MEASURED)
    changes = {
        "outer": recipe.outer.model_copy(update={"tasks": num_tasks}),
        "inner": recipe.inner.model_copy(update={"steps": num_steps}),
        "evaluation": recipe.evaluation.model_copy(update={"steps": num_scored}),
    }
    times = recipe.outer.tasks / num_tasks * recipe.inner.steps / num_steps
    return replace(whole, recipe=recipe.model_copy(update=changes)), times, steps_scored / num_scored


def _timed(function: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - started
