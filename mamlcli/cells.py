"""One cell of a study, as a worker runs it: a run directory made or continued, trained, scored, collapsed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mamlcli.analysis import TaskStream, collapse_check
from mamlcli.build import Experiment, build, build_network
from mamlcli.engine import Record, new_state
from mamlcli.errors import Interrupted, RunError
from mamlcli.estimators import MetaParams
from mamlcli.linear_stack import COLLAPSE_TOLERANCE, append_layers, parameter_counts
from mamlcli.pool import IsStopped
from mamlcli.recipe import Recipe
from mamlcli.recipe_files import recipe_from_tree
from mamlcli.rundir import RunDirectory
from mamlcli.session import Progress, best_weights, finished_result, splits_of_training, train_run

# Tasks on which a collapsed model is compared with its stack; the differences are of rounding alone.
NUM_COLLAPSE_TASKS = 100


def run_cell(payload: dict[str, Any], is_stopped: IsStopped) -> dict[str, Any]:
    """Train and score one cell in its run directory, from where it was cut if it was."""
    path, recipe = Path(payload["path"]), recipe_from_tree(payload["recipe"], where="cell")
    run = _open_cell(path, recipe, payload["name"])
    # Before building: the recipe, or a model too small for threads, may set another number.
    torch.set_num_threads(payload["num_threads"])
    experiment = build(recipe, splits=splits_of_training(recipe))
    if finished_report(run) is None:
        if payload["started_from"]:
            write_start(run, experiment, RunDirectory.open(Path(payload["started_from"])))

        def stop_if_told(_: Record | int) -> None:
            if is_stopped():
                raise Interrupted("interrupted")

        progress = Progress(on_record=stop_if_told, on_evaluation=stop_if_told)
        train_run(run, experiment, argv=payload["argv"], progress=progress)
    if payload["with_collapse"]:
        run.write_json("collapse.json", collapse_record(run, experiment))
    return {}


def finished_report(run: RunDirectory) -> dict[str, Any] | None:
    """Return the content of evaluation.json of a run that is done, else None."""
    try:
        done = finished_result(run)
    except RunError:  # a damaged evaluation.json: it is written again from the checkpoint
        return None
    return None if done is None else done.report


def _open_cell(path: Path, recipe: Recipe, name: str) -> RunDirectory:
    if (path / "recipe.yaml").is_file() and (path / "manifest.json").is_file():
        run = RunDirectory.open(path)
        run.check_recipe(recipe)
        return run
    if path.exists():  # cut while it was being made; there is nothing in it yet
        shutil.rmtree(path)
    return RunDirectory.create(path, recipe, name)


def write_start(run: RunDirectory, experiment: Experiment, source: RunDirectory) -> None:
    """Write the checkpoint that a cell starts from: a trained run with linear layers appended.

    Nothing is done where the cell has a checkpoint already. Meta-parameters of a gradient transform stay with their
    layer (the last one moves up) where they keep their shape; the others, and those of the appended layers, start
    as the identity.
    """
    if run.load_checkpoint("last") is not None:
        return
    shape = experiment.network.input_shape
    num_outputs = next(iter(experiment.distributions.values())).num_outputs
    old = replace(experiment, recipe=source.recipe, network=build_network(source.recipe, shape, num_outputs))
    meta, weights = best_weights(source, old)
    keys = experiment.recipe.model
    network, params = append_layers(
        old.network, meta.model, keys.linear_layers, keys.linear_width, experiment.recipe.seed
    )
    assert network.parameter_names() == experiment.network.parameter_names()
    fresh = experiment.initial_meta().transform
    xi = start_transform(meta.transform, fresh, last=len(old.network.head) - 1, num_layers=keys.linear_layers)
    ordered = {name: params[name] for name in experiment.network.parameter_names()}
    run.update_manifest({"started_from": {"run": str(source.path), "weights": weights}})
    run.save_checkpoint("last", *new_state(MetaParams(ordered, xi), experiment.outer_loop()).export())


def start_transform(
    trained: Mapping[str, Tensor], fresh: Mapping[str, Tensor], *, last: int, num_layers: int
) -> dict[str, Tensor]:
    """Return the meta-parameters xi of a gradient transform for a network that linear layers were appended to.

    Args:
        trained: xi of the shallow network, names as in `<parameter name>/<part>`.
        fresh: xi of the longer network at the identity; it says which names there are, and their shapes.
        last: index of the shallow network's last layer in its head; the last of the longer one, last + num_layers,
            does what it did, and takes its xi. The layers from `last` up to that one are new.
        num_layers: layers appended.
    """
    moved = {}
    for name, value in trained.items():
        is_last = name.startswith(f"head.{last}.")
        moved[f"head.{last + num_layers}.{name.split('.', 2)[2]}" if is_last else name] = value
    return {
        name: moved[name] if name in moved and moved[name].shape == value.shape else value
        for name, value in fresh.items()
    }


def collapse_record(run: RunDirectory, experiment: Experiment) -> dict[str, Any]:
    """Return how far a run's adapted stacks and their collapsed models are apart, and the sizes of both."""
    spec = experiment.recipe.evaluation
    meta, _ = best_weights(run, experiment)
    num_tasks = min(spec.tasks, NUM_COLLAPSE_TASKS)
    how = experiment.execution(num_tasks=num_tasks, num_steps=0)
    tasks = TaskStream(experiment.distributions[spec.split], spec.seed, spec.split, num_tasks, how.chunk)
    check = collapse_check(experiment.objective(spec.steps), meta, tasks, how)
    num_parameters, num_collapsed = parameter_counts(experiment.network, meta.model)
    return {
        "num_parameters": num_parameters,
        "num_parameters_collapsed": num_collapsed,
        "num_tasks": num_tasks,
        "largest_difference": float(check.absolute.max()),
        "largest_relative_difference": float(check.relative.max()),
        "tolerance": COLLAPSE_TOLERANCE[experiment.dtype],
    }
