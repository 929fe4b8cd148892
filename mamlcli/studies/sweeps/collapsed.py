"""Collapsed models of a study's cells: outputs compared with the stack's, sizes counted, models exported."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from mamlcli.common.commands import command
from mamlcli.common.disk import write_error
from mamlcli.common.errors import MamlError, RunError
from mamlcli.common.files import atomic_write
from mamlcli.common.published import published_path
from mamlcli.engine.evaluation import Array, TaskStream, adapted_params, map_tasks
from mamlcli.engine.execution import Execution
from mamlcli.engine.linear_stack import (
    COLLAPSE_TOLERANCE,
    collapse_difference,
    collapse_head,
    collapsed_network,
    parameter_counts,
)
from mamlcli.engine.networks import Params
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.files import recipe_to_tree
from mamlcli.recipe.places import with_published_path
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.cell_result import CollapseRecord
from mamlcli.studies.sweeps.sweep import DEPTH, LAYERS
from mamlcli.tasks.episodes import Episode
from mamlcli.training.checkpoints import STATE_KEY
from mamlcli.training.experiment import Experiment, build
from mamlcli.training.scoring import evaluation_stream
from mamlcli.training.trained import best_weights

# The collapse, after adaptation ----------------------------------------------------------------------------


@dataclass(frozen=True)
class CollapseCheck:
    """A collapse check says how far adapted stacks and their collapsed models are apart on the inputs of each task.

    Attributes:
        absolute: [num_tasks], the largest difference of outputs.
        relative: [num_tasks], the same relative to the largest output.
    """

    absolute: Array
    relative: Array


def collapse_check(
    objective: MetaObjective, meta: MetaParams, episodes: Iterable[Episode], execution: Execution
) -> CollapseCheck:
    """Adapt to each task, collapse the adapted stack into one layer, and compare the outputs of both models."""
    network, collapsed = objective.network, collapsed_network(objective.network)

    def differences(model: Params, xi: Params, *data: Tensor) -> Tensor:
        adapted = adapted_params(objective, model, xi, *data[:3])
        sets = [collapse_difference(network, collapsed, adapted, x) for x in (data[0], data[2])]
        return torch.stack([torch.stack(pair) for pair in sets]).amax(dim=0)

    largest = map_tasks(differences, meta, episodes, execution)
    return CollapseCheck(largest[:, 0], largest[:, 1])


# Tasks on which a collapsed model is compared with its stack; the differences are of rounding alone.
NUM_COLLAPSE_TASKS = 100


def collapse_record(run: RunDirectory, experiment: Experiment) -> CollapseRecord:
    """Return how far a run's adapted stacks and their collapsed models are apart, and the sizes of both."""
    spec = experiment.recipe.evaluation
    meta, _ = best_weights(run, experiment)
    num_tasks = min(spec.tasks, NUM_COLLAPSE_TASKS)
    how = experiment.execution(num_tasks=num_tasks, num_steps=0)
    tasks = TaskStream(
        experiment.distributions[spec.split], spec.seed, evaluation_stream(spec.split), num_tasks, how.chunk
    )
    objective, meta = experiment.scoring_objective(spec.steps).with_learned_head(meta)
    check = collapse_check(objective, meta, tasks, how)
    num_parameters, num_collapsed = parameter_counts(experiment.network, meta.model)
    # Where a stack diverged on a task, infinities say nothing of how the two models round.
    is_finite = np.isfinite(check.relative) & np.isfinite(check.absolute)
    return CollapseRecord(
        num_parameters=num_parameters,
        num_parameters_collapsed=num_collapsed,
        num_tasks=int(is_finite.sum()),
        largest_difference=_largest(check.absolute[is_finite]),
        largest_relative_difference=_largest(check.relative[is_finite]),
        tolerance=COLLAPSE_TOLERANCE[experiment.dtype],
        num_not_finite=int((~is_finite).sum()),
    )


def _largest(values: Array) -> float:
    return float(values.max()) if len(values) else math.nan


# A collapsed model of its own ----------------------------------------------------------------------------------


def export_collapsed(run_path: Path, out: Path) -> CollapseRecord:
    """Write a run's weights with its linear layers multiplied into one, and say how far its outputs move.

    The file is a safetensors file with the names of the shallow network; its metadata hold the run, the recipe of
    that network and the check. Note that the weights before adaptation are collapsed: the file computes what the
    run computes before it adapts, and adapts as a shallow network does.

    Raises:
        RunError: no run, no checkpoint, one layer only, or a file that is there already or cannot be written;
            MamlError: the outputs differ by more than rounding.
    """
    run = RunDirectory.open(run_path)
    _check_new(out, run_path)
    recipe = run.recipe
    experiment = build(recipe, splits=(recipe.evaluation.split,))
    experiment.use_threads()
    if len(experiment.network.head) < 2:
        raise RunError(str(run_path), expected="a run with a stack of linear layers", got="one linear layer")
    record = collapse_record(run, experiment)
    if not record.agrees:
        raise MamlError(
            str(run_path),
            expected="a collapsed model with the outputs of the stack",
            got=f"a relative difference of {record.largest_relative_difference:.1e}",
            next_step="Train with execution.dtype=float64",
        )
    meta, weights = best_weights(run, experiment)
    _, params = collapse_head(experiment.network, experiment.objective().start(meta.model))
    # The file has the whole start of the shallow network, so that for it all of that is learned.
    keys: dict[str, object] = {
        LAYERS: 0,
        "model.linear_width": None,
        "inner.transform": {"name": "none"},
        "inner.head": "learned",
    }
    shallow = changed_recipe(recipe, keys | ({DEPTH: 1} if recipe.model.kind == "linear" else {}), "collapsed")
    metadata = {
        "run": published_path(run.label),
        "weights": weights,
        "recipe": recipe_to_tree(with_published_path(shallow)),
        "check": record.to_json(),
    }
    cpu = {name: value.detach().cpu().contiguous() for name, value in params.items()}
    try:
        atomic_write(out, save_tensors(cpu, metadata={STATE_KEY: json.dumps(metadata)}))
    except OSError as error:
        raise write_error(error, str(out), expected="a file that can be written") from error
    return record


def _check_new(out: Path, run_path: Path) -> None:
    if not out.exists():
        return
    names = (out.with_stem(f"{out.stem}-{number}") for number in itertools.count(2))
    other = next(name for name in names if not name.exists())
    another = command("add-linear", run_path, "--collapse", other)
    raise RunError(
        str(out), expected="a file that does not exist", got="one that does", next_step=f"Name another: {another}"
    )
