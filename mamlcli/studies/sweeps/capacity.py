"""The capacity arm of a study is run here: the same networks, without meta-learning."""

from __future__ import annotations

import json
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mamlcli.common.errors import MamlError, NonFiniteError
from mamlcli.common.files import atomic_write
from mamlcli.common.processes.jobs import IsStopped, Job
from mamlcli.common.statistics import summary
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import SyntheticKeys
from mamlcli.studies.sweeps.alone import Array, capacity
from mamlcli.studies.sweeps.cell_result import CapacityRecord, CellResult
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.scores import StudyScores
from mamlcli.studies.sweeps.sweep import AxisValue, Sweep, cells_of
from mamlcli.tasks.episodes import TaskDistribution
from mamlcli.tasks.fewshot import FewShotTasks
from mamlcli.training.experiment import build
from mamlcli.training.scoring import evaluation_stream

# The capacity arm: so many examples that a model which can express the task also finds it.
NUM_CAPACITY_TASKS = 5
NUM_CAPACITY_SHOTS = 1000
MAX_CAPACITY_SHOTS_OF_A_CLASS = 100
MAX_CAPACITY_STEPS = {"synthetic": 20_000, "images": 2_000}


@dataclass(frozen=True)
class PlannedCapacity:
    """A planned capacity is the capacity arm of one axis value as it is handed to a process, pickled.

    Attributes:
        recipe: of the value's first cell.
        file: where what is reached goes.
        num_threads: that the process may use.
    """

    recipe: Recipe
    file: Path
    num_threads: int


def check_capacity(sweep: Sweep, is_wanted: bool) -> None:
    """Raise a MamlError where a network is wanted that starts anew for each task, and mamlcli does not make it."""
    if is_wanted and isinstance(sweep.recipe.model, OutsideModel):
        expected, got = "a network that mamlcli makes", f"model.kind={sweep.recipe.model.kind}"
        raise MamlError("--capacity", expected=expected, got=got, next_step="Leave --capacity out")


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
            planned = PlannedCapacity(first_seed[value.label].recipe, file, num_threads)
            jobs.append(
                Job(
                    f"capacity/{value.label}", run_capacity, planned, can_stop=False, hopeless=[NonFiniteError.__name__]
                )
            )
    return jobs


def _capacity_file(path: Path, value: AxisValue) -> Path:
    return path / "capacity" / f"{value.slug}.json"


def run_capacity(planned: PlannedCapacity, is_stopped: IsStopped) -> dict[str, object]:
    """Train a cell's network without meta-learning on many examples of meta-test tasks, and write what it reaches.

    Each of 5 tasks is learned by itself: from 1000 support points in float64 (synthetic tasks), or from all the
    images of its classes that are not queries, up to 100 of each.
    """
    recipe = planned.recipe
    # Before building: the recipe, or a model too small for threads, may set another number.
    torch.set_num_threads(planned.num_threads)
    is_synthetic = isinstance(recipe.tasks, SyntheticKeys)
    if is_synthetic:
        recipe = changed_recipe(recipe, {"execution.dtype": "float64"}, "capacity")
    split, num_tasks = recipe.evaluation.split, min(NUM_CAPACITY_TASKS, recipe.evaluation.tasks)
    experiment = build(recipe, splits=(split,))
    experiment.use_threads()
    distribution = experiment.distributions[split]
    richer, shots = _with_many_shots(distribution)
    max_steps = MAX_CAPACITY_STEPS["synthetic" if is_synthetic else "images"]
    reached = capacity(
        experiment.scoring_objective().network,
        richer,
        num_tasks=num_tasks,
        split=evaluation_stream(split),
        seed=recipe.evaluation.seed,
        init=recipe.model.init,
        init_seed=recipe.seed,
        max_steps=max_steps,
    )
    accuracy = reached.accuracy if experiment.recipe.is_classification else None
    record = CapacityRecord(
        scores=scores_over_tasks(reached.loss, accuracy),
        references={
            name: scores_over_tasks(_array(scores.loss), _array(scores.accuracy))
            for name, scores in reached.references.items()
        },
        shots=shots,
        num_tasks=num_tasks,
        num_converged=int(reached.is_converged.sum()),
        num_steps=reached.num_steps,
    )
    planned.file.parent.mkdir(exist_ok=True)
    atomic_write(planned.file, (json.dumps(record.to_json(), indent=2) + "\n").encode())
    return {}


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
        return CapacityRecord.from_json(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    return replace(result, cells=tuple(replace(cell, capacity=record(cell)) for cell in result.cells))


def _array(values: Tensor | None) -> Array | None:
    return None if values is None else values.cpu().double().numpy()


def scores_over_tasks(loss: Array | None, accuracy: Array | None) -> StudyScores:
    """Return the means of losses and accuracies, [num_tasks] each, with their intervals over tasks."""
    scores = {"loss": loss, "accuracy": accuracy}
    return StudyScores({name: summary(values) for name, values in scores.items() if values is not None}, "tasks")
