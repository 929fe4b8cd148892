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
from mamlcli.errors import Interrupted, NonFiniteError, RunError
from mamlcli.estimators import MetaParams
from mamlcli.linear_stack import COLLAPSE_TOLERANCE, append_layers, parameter_counts
from mamlcli.pool import IsStopped, failure
from mamlcli.recipe import Recipe
from mamlcli.recipe_files import recipe_from_tree
from mamlcli.replicas import Replica, train_replicas
from mamlcli.rundir import RunDirectory
from mamlcli.session import Progress, finished_result, splits_of_training, train_run
from mamlcli.trained import best_weights

# Tasks on which a collapsed model is compared with its stack; the differences are of rounding alone.
NUM_COLLAPSE_TASKS = 100


def run_cell(payload: dict[str, Any], is_stopped: IsStopped) -> dict[str, Any]:
    """Train and score one cell in its run directory, from where it was cut if it was."""
    run, recipe = _open_payload(payload)
    experiment = build(recipe, splits=splits_of_training(recipe))
    if finished_report(run) is None:
        _start(payload, run, experiment)

        def stop_if_told(_: Record | int) -> None:
            if is_stopped():
                raise Interrupted("interrupted")

        progress = Progress(on_record=stop_if_told, on_evaluation=stop_if_told)
        train_run(run, experiment, argv=payload["argv"], progress=progress)
    _finish(payload, run, experiment)
    return {}


def run_cells(payload: dict[str, Any], is_stopped: IsStopped) -> dict[str, Any]:
    """Do `run_cell` for cells that differ in their seed alone, trained together.

    A cell that fails is tried again alone, as the pool tries a job again, unless its training diverged.

    Args:
        payload: "cells", the payloads of the cells by name.
        is_stopped: whether to stop.

    Returns:
        Under "failed", by name of the cells that did: "reason", "error" and "details" as in `pool.Outcome`.

    Raises:
        Interrupted: told to stop; every cell is saved.
    """
    failed: dict[str, dict[str, str]] = {}
    again = []
    for name, error in _train_cells(payload["cells"], is_stopped).items():
        if isinstance(error, Interrupted | KeyboardInterrupt):
            raise Interrupted("interrupted") from error
        if isinstance(error, NonFiniteError):
            failed[name] = failure(error)
        else:
            again.append(name)
    for name in again:
        try:
            run_cell(payload["cells"][name], is_stopped)
        except Exception as error:
            if isinstance(error, Interrupted):
                raise
            failed[name] = failure(error)
    return {"failed": failed}


def _train_cells(payloads: Mapping[str, dict[str, Any]], is_stopped: IsStopped) -> dict[str, BaseException]:
    """Train what is not done of the cells, all at once; return the errors by name."""
    opened = {name: _open_payload(payload) for name, payload in payloads.items()}
    _, recipe = next(iter(opened.values()))
    first = build(recipe, splits=splits_of_training(recipe))
    # Tasks and network are the same for all seeds.
    experiments = {name: replace(first, recipe=recipe) for name, (_, recipe) in opened.items()}
    replicas = {}
    for name, (run, _) in opened.items():
        if finished_report(run) is None:
            _start(payloads[name], run, experiments[name])
            replicas[name] = Replica(run, experiments[name], payloads[name]["argv"])
    ends = train_replicas(list(replicas.values()), is_stopped=is_stopped) if replicas else []
    errors = {name: end for name, end in zip(replicas, ends, strict=True) if isinstance(end, BaseException)}
    for name in opened.keys() - errors.keys():
        _finish(payloads[name], opened[name][0], experiments[name])
    return errors


def _open_payload(payload: dict[str, Any]) -> tuple[RunDirectory, Recipe]:
    recipe = recipe_from_tree(payload["recipe"], where="cell")
    run = _open_cell(Path(payload["path"]), recipe, payload["name"])
    # Before building: the recipe, or a model too small for threads, may set another number.
    torch.set_num_threads(payload["num_threads"])
    return run, recipe


def _start(payload: dict[str, Any], run: RunDirectory, experiment: Experiment) -> None:
    if payload["started_from"]:
        write_start(run, experiment, RunDirectory.open(Path(payload["started_from"])))


def _finish(payload: dict[str, Any], run: RunDirectory, experiment: Experiment) -> None:
    if payload["with_collapse"]:
        run.write_json("collapse.json", collapse_record(run, experiment))


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
