"""The premise of C2 is tested here: the tasks need no depth, a shallow network trained on each alone does as well.

It decides nothing. Where it is met, that a deeper network is the better one after meta-learning cannot be for what it
can express.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy.special import stdtrit

from mamlcli.common.files import atomic_write
from mamlcli.common.processes.pool import IsStopped, Job
from mamlcli.recipe.schema import Recipe
from mamlcli.studies.records import kept_record, read_record
from mamlcli.studies.sweeps.alone import Array, Capacity, capacity
from mamlcli.studies.sweeps.sweep import Sweep, cells_of
from mamlcli.tasks.fewshot import FewShotTasks
from mamlcli.training.experiment import build
from mamlcli.training.scoring import evaluation_stream

PREMISE = "premise.json"
MET, NOT_MET, NOT_TESTED = "met", "not met", "not tested"

# Difference of accuracies, as a fraction, that does not matter: one point.
MARGIN = 0.01
# Two-sided; its lower end is a one-sided test at 5 %.
LEVEL = 0.90

# A few tasks are enough for differences of some points, and take a few minutes of one core.
NUM_TASKS = 10
MAX_STEPS = 2_000
# Of a class: more make steps dearer (CIFAR-FS has hundreds).
MAX_EXAMPLES = 15
# Nats. A network whose support loss is below this has fitted all its examples.
STOP_LOSS = 0.01


@dataclass(frozen=True)
class PremiseRecord:
    """A premise record says how a shallow and a deep network do on tasks that each is trained on alone.

    Attributes:
        shallow, deep: depths.
        num_tasks: that the means are over.
        num_examples: images of each class that a task is learned from.
        accuracy_shallow, accuracy_deep: on query sets, means over tasks.
        steps_shallow, steps_deep: of Adam that were taken.
        fitted_shallow, fitted_deep: tasks that had come to rest by then.
        difference: shallow minus deep, paired over tasks, as a fraction.
        half_width: of its 90 % interval over tasks; NaN with one task.
    """

    shallow: int
    deep: int
    num_tasks: int
    num_examples: int
    accuracy_shallow: float
    accuracy_deep: float
    steps_shallow: int
    steps_deep: int
    fitted_shallow: int
    fitted_deep: int
    difference: float
    half_width: float

    @property
    def verdict(self) -> str:
        """Return "met" where the whole interval lies above minus the margin, else "not met".

        So "met" is shown (one-sided, at 5 %), and "not met" may also be a lack of tasks: the interval says which.
        """
        return MET if self.difference - self.half_width > -MARGIN else NOT_MET

    @property
    def words(self) -> str:
        """The premise and its numbers in one sentence."""
        points = [100 * value for value in (self.difference, self.half_width, MARGIN)]
        return (
            f"Premise {self.verdict}: trained on each of {self.num_tasks} tasks alone ({self.num_examples} images a "
            f"class), depth {self.shallow} has {self.accuracy_shallow:.1%} and depth {self.deep} "
            f"{self.accuracy_deep:.1%}; difference {points[0]:+.1f} +- {points[1]:.1f} points (90 % interval over "
            f"tasks; met above -{points[2]:g})"
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PremiseRecord:
        """Return the record in a JSON object."""
        half_width = value["half_width"]
        names = cls.__dataclass_fields__
        return cls(
            **{name: value[name] for name in names} | {"half_width": math.nan if half_width is None else half_width}
        )

    def to_json(self) -> dict[str, object]:
        """Return the record as premise.json holds it."""
        half_width = self.half_width if math.isfinite(self.half_width) else None
        return {**asdict(self), "half_width": half_width, "level": LEVEL, "margin": MARGIN, "verdict": self.verdict}


@dataclass(frozen=True)
class PlannedPremise:
    """A planned premise is one test of it as it is handed to a process, pickled.

    Attributes:
        recipes: of growing depth, otherwise alike; the first is compared with each of the others.
        file: where the records go.
        num_threads: that the process may use.
    """

    recipes: tuple[Recipe, ...]
    file: Path
    num_threads: int


def premise_jobs(sweep: Sweep, path: Path, *, num_threads: int = 1) -> list[Job]:
    """Return the job that tests the premise on a study's tasks; none if it is done, or there is no pair of depths.

    Args:
        sweep: a study of image tasks with cells of several depths that have neither linear layers nor a transform.
        path: its folder.
        num_threads: of the job's process.
    """
    recipes: dict[int, Recipe] = {}
    for cell in cells_of(sweep):
        model = cell.recipe.model
        is_plain = model.linear_layers == 0 and cell.recipe.inner.transform.name == "none"
        if is_plain and model.width == sweep.recipe.model.width:
            recipes.setdefault(model.depth, cell.recipe)
    if kept_record(path / PREMISE, _records) is not None or len(recipes) < 2:
        return []
    planned = PlannedPremise(tuple(recipes[depth] for depth in sorted(recipes)), path / PREMISE, num_threads)
    return [Job(f"premise/{path.name}", run_premise, planned, can_stop=False)]


def run_premise(planned: PlannedPremise, is_stopped: IsStopped) -> dict[str, object]:
    """Train every network on each of a few meta-test tasks alone, and write premise.json."""
    torch.set_num_threads(planned.num_threads)
    first, *deeper = planned.recipes
    shallow, num_examples = _alone(first)
    records = []
    for recipe in deeper:
        deep, _ = _alone(recipe)
        difference, half_width = mean_and_half_width(shallow.accuracy - deep.accuracy)
        record = PremiseRecord(
            shallow=first.model.depth,
            deep=recipe.model.depth,
            num_tasks=len(shallow.accuracy),
            num_examples=num_examples,
            accuracy_shallow=float(shallow.accuracy.mean()),
            accuracy_deep=float(deep.accuracy.mean()),
            steps_shallow=shallow.num_steps,
            steps_deep=deep.num_steps,
            fitted_shallow=int(shallow.is_converged.sum()),
            fitted_deep=int(deep.is_converged.sum()),
            difference=difference,
            half_width=half_width,
        )
        records.append(record.to_json())
    atomic_write(planned.file, (json.dumps(records, indent=2) + "\n").encode())
    return {}


def _alone(recipe: Recipe) -> tuple[Capacity, int]:
    """Return what a recipe's network reaches on each task alone, and the examples of a class that it learns from."""
    split = recipe.evaluation.split
    experiment = build(recipe, splits=(split,))
    experiment.use_threads()
    distribution = experiment.distributions[split]
    assert isinstance(distribution, FewShotTasks), "the premise is one of image tasks"
    # All that are not queries.
    shots = min(MAX_EXAMPLES, min(map(len, distribution.class_images)) - distribution.queries)
    reached = capacity(
        experiment.scoring_objective().network,
        replace(distribution, shots=shots),
        num_tasks=NUM_TASKS,
        split=evaluation_stream(split),
        seed=recipe.evaluation.seed,
        init=recipe.model.init,
        init_seed=recipe.seed,
        max_steps=MAX_STEPS,
        stop_loss=STOP_LOSS,
    )
    return reached, shots


def mean_and_half_width(values: Array) -> tuple[float, float]:
    """Return the mean over tasks and the half-width of its 90 % interval, t_{0.95, n-1} s / sqrt(n)."""
    num = len(values)
    if num < 2:
        return float(values.mean()), math.nan
    return float(values.mean()), float(stdtrit(num - 1, (1 + LEVEL) / 2) * values.std(ddof=1) / math.sqrt(num))


def read_premise(path: Path) -> tuple[PremiseRecord, ...]:
    """Return the premise in a study's folder, one record for each deeper network; none where it was not tested.

    Raises:
        RunError: premise.json is damaged.
    """
    file = path / PREMISE
    return read_record(file, _records) if file.is_file() else ()


def _records(value: Sequence[Mapping[str, Any]]) -> tuple[PremiseRecord, ...]:
    return tuple(map(PremiseRecord.from_json, value))


def premise_words(records: Sequence[PremiseRecord]) -> list[str]:
    """Return the premise in sentences, one for each deeper network."""
    return [record.words for record in records] or [f"Premise {NOT_TESTED}"]
