"""The paper's studies: what each one's axis changes in a recipe, and what it shows beyond its cells' scores.

sweep-depth: model.depth, with closed forms for linear regression and a capacity arm.
add-linear: model.linear_layers, with the real collapse of the layers into one.
meta-opt: inner.transform.name, alone or crossed with model.depth.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import nn

from mamlcli.build import Experiment, build, build_network
from mamlcli.capacity import Array, capacity
from mamlcli.cell_result import CapacityRecord, CellResult, CollapseRecord
from mamlcli.cells import collapse_record
from mamlcli.checkpoints import STATE_KEY
from mamlcli.errors import MamlError, RecipeError, RunError, nearest
from mamlcli.estimators import MetaParams
from mamlcli.files import atomic_write, json_text
from mamlcli.linear_stack import collapse_head
from mamlcli.models import linear
from mamlcli.names import TRANSFORMS
from mamlcli.pool import IsStopped, Job
from mamlcli.recipe import LinearRegressionTasks, Recipe, SyntheticKeys
from mamlcli.recipe_changes import changed_recipe, recipe_difference
from mamlcli.recipe_files import recipe_from_tree, recipe_to_tree
from mamlcli.rundir import RunDirectory
from mamlcli.scoring import ScoredTasks, score
from mamlcli.statistics import Score
from mamlcli.study_plots import save_study_figure
from mamlcli.study_result import ClosedForm, StudyResult
from mamlcli.study_results import result_csv, summary
from mamlcli.study_scores import GridValue, Scores
from mamlcli.sweep import AxisValue, Sweep, cells_of
from mamlcli.tasks import closed_forms, synthetic
from mamlcli.tasks.base import TaskDistribution
from mamlcli.tasks.fewshot import FewShotTasks
from mamlcli.trained import best_weights

DEPTH, LAYERS, OPTIMIZER = "model.depth", "model.linear_layers", "inner.transform.name"

# The capacity arm: so many examples that a model which can express the task also finds it.
NUM_CAPACITY_TASKS = 5
NUM_CAPACITY_SHOTS = 1000
MAX_CAPACITY_SHOTS_OF_A_CLASS = 100
MAX_CAPACITY_STEPS = {"synthetic": 20_000, "images": 2_000}


# The three axes ------------------------------------------------------------------------------------------------


def depth_sweep(
    name: str, recipe: Recipe, *, depths: Sequence[int], num_seeds: int, inner_lrs: Sequence[float] = ()
) -> Sweep:
    """Return the study of model depth: conv blocks, hidden layers, or linear layers of a linear model."""
    _check_values(depths, "--depths")
    values = tuple(AxisValue(depth, f"depth {depth}", {DEPTH: depth}, f"--depths {depth}") for depth in depths)
    return Sweep(
        "sweep-depth", DEPTH, name, recipe, values, num_seeds=num_seeds, inner_lrs=tuple(inner_lrs),
        pairs=_neighbours_and_first(len(values)),
    )  # fmt: skip


def linear_sweep(
    name: str,
    recipe: Recipe,
    *,
    layers: Sequence[int],
    num_seeds: int,
    inner_lrs: Sequence[float] = (),
    started_from: Path | None = None,
) -> Sweep:
    """Return the study of linear layers appended to the output, from a fresh start or from a trained run.

    Raises:
        RunError: the run to start from has such layers already, or the recipe is not the run's.
    """
    _check_values(layers, "--layers")
    if started_from is not None:
        _check_start(RunDirectory.open(started_from), recipe)
    values = tuple(
        AxisValue(num, f"{num} layer{'s' if num != 1 else ''}", {LAYERS: num}, f"--layers {num}") for num in layers
    )
    return Sweep(
        "add-linear", LAYERS, name, recipe, values, num_seeds=num_seeds, inner_lrs=tuple(inner_lrs),
        pairs=_neighbours_and_first(len(values)), started_from=started_from, with_collapse=True,
    )  # fmt: skip


def optimizer_sweep(
    name: str,
    recipe: Recipe,
    *,
    optimizers: Sequence[str],
    depths: Sequence[int] = (),
    num_seeds: int,
    inner_lrs: Sequence[float] = (),
) -> Sweep:
    """Return the study of gradient transforms; with depths, the grid of depth x optimizer.

    Raises:
        RecipeError: a name that is no transform; the message has the nearest one.
    """
    _check_values(optimizers, "--optimizers")
    if depths:
        _check_values(depths, "--depths")
    unknown = [
        f"--optimizers: expected one of {', '.join(TRANSFORMS)}, got {found!r}.{nearest(found, TRANSFORMS)}"
        for found in optimizers
        if found not in TRANSFORMS
    ]
    if unknown:
        raise RecipeError(unknown)
    if not depths:
        values = tuple(
            AxisValue(found, found, _transform_changes(found), f"--optimizers {found}") for found in optimizers
        )
        pairs = tuple((b, a) for a, b in itertools.combinations(range(len(values)), 2))
        axis = OPTIMIZER
    else:
        values = tuple(
            AxisValue(
                GridValue(depth, found), f"depth {depth}, {found}",
                {DEPTH: depth, **_transform_changes(found)}, f"--depths {depth} --optimizers {found}",
            )
            for depth, found in itertools.product(depths, optimizers)
        )  # fmt: skip
        pairs = _grid_pairs(len(depths), len(optimizers))
        axis = f"{DEPTH} x {OPTIMIZER}"
    return Sweep("meta-opt", axis, name, recipe, values, num_seeds=num_seeds, inner_lrs=tuple(inner_lrs), pairs=pairs)


def _transform_changes(name: str) -> dict[str, object]:
    # Without a transform there is none to adapt; its other keys mean nothing then.
    return {"inner.transform": {"name": "none"}} if name == "none" else {OPTIMIZER: name}


def _check_values(values: Sequence[object], option: str) -> None:
    if not values:
        raise MamlError(option, expected="at least one value", got="none")
    repeated = [value for index, value in enumerate(values) if value in values[:index]]
    if repeated:
        raise MamlError(option, expected="each value once", got=f"{repeated[0]} twice")


def _neighbours_and_first(num_values: int) -> tuple[tuple[int, int], ...]:
    """Return (later, earlier) for neighbours, then each value against the first."""
    neighbours = [(index, index - 1) for index in range(1, num_values)]
    return tuple(dict.fromkeys([*neighbours, *((index, 0) for index in range(1, num_values))]))


def _grid_pairs(num_depths: int, num_optimizers: int) -> tuple[tuple[int, int], ...]:
    """Return each optimizer against the first of its depth, then each depth against the one before."""
    index = {cell: i for i, cell in enumerate(itertools.product(range(num_depths), range(num_optimizers)))}
    against_first = [(index[d, o], index[d, 0]) for d in range(num_depths) for o in range(1, num_optimizers)]
    deeper = [(index[d, o], index[d - 1, o]) for d in range(1, num_depths) for o in range(num_optimizers)]
    return (*against_first, *deeper)


def _check_start(run: RunDirectory, recipe: Recipe) -> None:
    if run.recipe.model.linear_layers:
        raise RunError(str(run.path), expected="a run without appended linear layers",
                       got=f"model.linear_layers={run.recipe.model.linear_layers}",
                       next_step="Start from its recipe, or from a shallow run")  # fmt: skip
    changed = [
        key
        for key in recipe_difference(run.recipe, recipe)
        if key.startswith(("model.", "tasks.source", "tasks.ways", "tasks.dimension")) and key != "model.linear_width"
    ]
    if changed:
        raise RunError(str(run.path), expected="keys that leave the trained weights as they are",
                       got=", ".join(changed), next_step="Start from a recipe instead of a run")  # fmt: skip


def check_start_width(sweep: Sweep, experiment: Experiment) -> None:
    """Raise MamlError where appended layers are too narrow to start as the identity."""
    width = sweep.recipe.model.linear_width
    shallow = changed_recipe(sweep.recipe, {LAYERS: 0}, "recipe")
    num_outputs = next(iter(experiment.distributions.values())).num_outputs
    last = build_network(shallow, experiment.network.input_shape, num_outputs).head[-1]
    assert isinstance(last, nn.Linear), "a head is linear layers only"
    if sweep.started_from is not None and width is not None and width < last.in_features:
        raise MamlError(
            "model.linear_width", expected=f"an integer >= {last.in_features}, the inputs of the last layer",
            got=str(width), why="Layers appended to a trained run start as the identity",
        )  # fmt: skip


# The capacity arm ----------------------------------------------------------------------------------------------


def capacity_jobs(sweep: Sweep, path: Path, *, num_threads: int) -> list[Job]:
    """Return the jobs of the capacity arm that are not done yet, one for each axis value.

    Args:
        sweep: the study.
        path: its folder.
        num_threads: of each job's process.
    """
    first_seed = {cell.value.label: cell for cell in reversed(cells_of(sweep))}
    jobs = []
    for value in sweep.values:
        file = _capacity_file(path, value)
        if not file.is_file():
            recipe = recipe_to_tree(first_seed[value.label].recipe)
            payload = {"recipe": recipe, "file": str(file), "num_threads": num_threads}
            jobs.append(Job(f"capacity/{value.label}", run_capacity, payload, can_stop=False))
    return jobs


def _capacity_file(path: Path, value: AxisValue) -> Path:
    return path / "capacity" / f"{value.slug}.json"


def run_capacity(payload: dict[str, Any], is_stopped: IsStopped) -> dict[str, Any]:
    """Train a cell's network without meta-learning on many examples of meta-test tasks, and write what it reaches.

    Each of 5 tasks is learned by itself: from 1000 support points in float64 (synthetic tasks), or from all the
    images of its classes that are not queries, up to 100 of each.
    """
    recipe = recipe_from_tree(payload["recipe"], where="capacity")
    # Before building: the recipe, or a model too small for threads, may set another number.
    torch.set_num_threads(payload["num_threads"])
    is_synthetic = isinstance(recipe.tasks, SyntheticKeys)
    if is_synthetic:
        recipe = changed_recipe(recipe, {"execution.dtype": "float64"}, "capacity")
    split, num_tasks = recipe.evaluation.split, min(NUM_CAPACITY_TASKS, recipe.evaluation.tasks)
    experiment = build(recipe, splits=(split,))
    distribution = experiment.distributions[split]
    richer, shots = _with_many_shots(distribution)
    max_steps = MAX_CAPACITY_STEPS["synthetic" if is_synthetic else "images"]
    found = capacity(
        experiment.network, richer, num_tasks=num_tasks, split=split, seed=recipe.evaluation.seed,
        init=recipe.model.init, init_seed=recipe.seed, max_steps=max_steps,
    )  # fmt: skip
    accuracy = found.accuracy if experiment.recipe.is_classification else None
    record = CapacityRecord(
        scores=_scores_over_tasks(found.loss, accuracy),
        references={
            name: _scores_over_tasks(*(None if part is None else part.double().cpu().numpy() for part in parts))
            for name, parts in ((name, (scores.loss, scores.accuracy)) for name, scores in found.references.items())
        },
        shots=shots,
        num_tasks=num_tasks,
        num_converged=int(found.is_converged.sum()),
        num_steps=found.num_steps,
    )
    file = Path(payload["file"])
    file.parent.mkdir(exist_ok=True)
    atomic_write(file, (json.dumps(record.to_json(), indent=2) + "\n").encode())
    return {}


def _scores_over_tasks(loss: Array | None, accuracy: Array | None) -> Scores:
    scores = {"loss": loss, "accuracy": accuracy}
    return Scores({name: summary(values) for name, values in scores.items() if values is not None}, "tasks")


def _with_many_shots(distribution: TaskDistribution) -> tuple[TaskDistribution, int]:
    """Return the same tasks with as many examples as the capacity arm learns from, and how many they are."""
    if isinstance(distribution, FewShotTasks):
        num_others = min(len(members) for members in distribution.class_images) - distribution.queries
        shots = min(num_others, MAX_CAPACITY_SHOTS_OF_A_CLASS)
        return replace(distribution, shots=shots), shots
    assert is_dataclass(distribution)
    return replace(distribution, shots=NUM_CAPACITY_SHOTS, queries=NUM_CAPACITY_SHOTS), NUM_CAPACITY_SHOTS


def add_capacity(result: StudyResult, sweep: Sweep, path: Path) -> StudyResult:
    """Return a result with what the capacity arm found in its cells."""
    files = {value.value: _capacity_file(path, value) for value in sweep.values}

    def record(cell: CellResult) -> CapacityRecord | None:
        file = files[cell.value]
        return CapacityRecord.from_json(json.loads(file.read_text())) if file.is_file() else None

    return replace(result, cells=tuple(replace(cell, capacity=record(cell)) for cell in result.cells))


# Closed forms --------------------------------------------------------------------------------------------------


def add_closed_form(result: StudyResult, sweep: Sweep, experiment: Experiment) -> StudyResult:
    """Return the result of a study with the closed forms of linear regression, where they apply: depth, linear models.

    Args:
        result: of the study.
        sweep: the study.
        experiment: of any of its cells; its meta-test tasks are used.
    """
    recipe = sweep.recipe
    is_linear = isinstance(recipe.tasks, LinearRegressionTasks) and recipe.model.kind == "linear"
    if sweep.axis != DEPTH or not is_linear or recipe.inner.transform.name != "none":
        return result
    # The forms are those of one layer that adapts: at depth 1 the model must be that.
    adapts = any(fnmatchcase("head.0.weight", pattern) for pattern in recipe.inner.adapt or ["*"])
    if recipe.model.linear_layers or not adapts:
        return result
    shallow = [cell.inner_lr for cell in result.cells if cell.value == 1]
    inner_lr = shallow[0] if shallow else recipe.inner.lr
    return replace(result, closed_form=closed_form(experiment, inner_lr=inner_lr))


def closed_form(experiment: Experiment, *, inner_lr: float) -> ClosedForm:
    """Return what is known of linear regression without training, for the meta-test tasks of an experiment.

    Losses include label noise. The derivations are in docs/algorithms.md, under "Closed forms".
    """
    recipe, spec = experiment.recipe, experiment.recipe.evaluation
    num_steps = spec.steps or recipe.inner.steps
    distribution = experiment.distributions[spec.split]
    assert isinstance(distribution, synthetic.LinearRegressionTasks)
    input_cov, task_cov = distribution.input_covariance(), distribution.task_covariance()
    floor = distribution.noise**2 / 2
    infinite = closed_forms.shallow_loss_infinite_support(input_cov, task_cov, inner_lr=inner_lr, num_steps=num_steps)
    finite = {"shots": distribution.shots, "noise": distribution.noise}
    best = closed_forms.optimal_preconditioner(input_cov, task_cov, **finite)
    one_step = closed_forms.shallow_loss_one_step(
        input_cov, task_cov, inner_lr=inner_lr, query_noise=distribution.noise, **finite
    )
    preconditioned = closed_forms.preconditioned_loss_one_step(
        best, input_cov, task_cov, query_noise=distribution.noise, **finite
    )
    return ClosedForm(
        inner_lr=inner_lr,
        inner_steps=num_steps,
        shallow_infinite_support=float(infinite) + floor,
        shallow_from_zero=_shallow_from_zero(experiment, inner_lr),
        shallow_one_step=float(one_step),
        preconditioned_one_step=float(preconditioned),
        noise_floor=floor,
    )


def _shallow_from_zero(experiment: Experiment, inner_lr: float) -> Score:
    spec = experiment.recipe.evaluation
    recipe = changed_recipe(
        experiment.recipe, {DEPTH: 1, LAYERS: 0, "inner.lr": inner_lr, "inner.adapt": None}, "closed form"
    )
    network = linear(experiment.network.input_shape, 1, depth=1, bias=False)
    shallow = replace(experiment, recipe=recipe, network=network)
    zero = MetaParams(
        {name: torch.zeros_like(value, dtype=experiment.dtype) for name, value in network.named_parameters()}, {}
    )
    tasks = ScoredTasks(spec.split, spec.tasks, spec.steps, with_references=False)
    [found] = score(shallow, [zero], tasks)
    return summary(found.column("query_loss", -1))


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
    if len(experiment.network.head) < 2:
        raise RunError(str(run_path), expected="a run with a stack of linear layers", got="one linear layer")
    record = CollapseRecord.from_json(collapse_record(run, experiment))
    if not record.agrees:
        raise MamlError(str(run_path), expected="a collapsed model with the outputs of the stack",
                        got=f"a relative difference of {record.largest_relative_difference:.1e}",
                        next_step="Train with execution.dtype=float64")  # fmt: skip
    meta, weights = best_weights(run, experiment)
    _, params = collapse_head(experiment.network, meta.model)
    keys: dict[str, object] = {LAYERS: 0, "model.linear_width": None, "inner.transform": {"name": "none"}}
    shallow = changed_recipe(recipe, keys | ({DEPTH: 1} if recipe.model.kind == "linear" else {}), "collapsed")
    metadata = {"run": str(run_path), "weights": weights, "recipe": recipe_to_tree(shallow), "check": record.to_json()}
    cpu = {name: value.detach().cpu().contiguous() for name, value in params.items()}
    try:
        atomic_write(out, save_tensors(cpu, metadata={STATE_KEY: json.dumps(metadata)}))
    except OSError as error:
        raise RunError(str(out), expected="a file that can be written", got=str(error.strerror)) from error
    return record


def _check_new(out: Path, run_path: Path) -> None:
    if not out.exists():
        return
    names = (out.with_stem(f"{out.stem}-{number}") for number in itertools.count(2))
    other = next(name for name in names if not name.exists())
    command = shlex.join(["mamlcli", "add-linear", str(run_path), "--collapse", str(other)])
    raise RunError(str(out), expected="a file that does not exist", got="one that does",
                   next_step=f"Name another: {command}")  # fmt: skip


# Files ---------------------------------------------------------------------------------------------------------


def write_result(path: Path, result: StudyResult) -> None:
    """Write result.json, table.csv, figure.png and figure.svg to a study's folder."""
    atomic_write(path / "result.json", json_text(result.to_json()).encode())
    atomic_write(path / "table.csv", result_csv(result).encode())
    if result.cells:
        save_study_figure(result, path)
