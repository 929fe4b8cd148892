"""The premise of C2 is tested here: the tasks need no depth, a shallow network trained on each alone does as well.

It decides nothing. Where it is met, that a deeper network is the better one after meta-learning cannot be for what it
can express.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy.special import stdtrit

from mamlcli.common.errors import NonFiniteError
from mamlcli.common.files import atomic_write
from mamlcli.common.processes.jobs import IsStopped, Job
from mamlcli.common.tables import PERCENT
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.schema import Recipe
from mamlcli.studies.claims.plan import Amounts
from mamlcli.studies.records import kept_record, read_record
from mamlcli.studies.sweeps.alone import Array, Capacity, capacity
from mamlcli.studies.sweeps.sweep import Cell, Sweep, cells_of
from mamlcli.tasks.fewshot import FewShotTasks
from mamlcli.training.experiment import build
from mamlcli.training.scoring import evaluation_stream

PREMISE = "premise.json"
MET, NOT_MET, NOT_SHOWN, NOT_TESTED = "met", "not met", "not shown", "not tested"

# Difference of accuracies, as a fraction, that does not matter: one point.
MARGIN = 0.01
# Two-sided; either end is a one-sided test at 5 %.
LEVEL = 0.90

# Of a class: more make steps dearer (CIFAR-FS has hundreds).
MAX_EXAMPLES = 15
# Nats. A network whose support loss is below this has fitted all its examples.
STOP_LOSS = 0.003


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
        wall_s: seconds that it took, of the shallow network too in the first record of a file; 0 where an earlier
            version did not note them.
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
    wall_s: float = 0.0

    @property
    def verdict(self) -> str:
        """Return "met" where the whole interval lies above minus the margin, "not met" where it lies below.

        Else, as with one task, "not shown". So "met" and "not met" are both shown, one-sided, at 5 %.
        """
        if self.difference - self.half_width > -MARGIN:
            return MET
        return NOT_MET if self.difference + self.half_width < -MARGIN else NOT_SHOWN

    @property
    def words(self) -> str:
        """The premise and its numbers in words, without the last full stop."""
        verdict = f"{self.verdict}, the interval allows both" if self.verdict == NOT_SHOWN else self.verdict
        low, high = PERCENT * (self.difference - self.half_width), PERCENT * (self.difference + self.half_width)
        interval = f"{PERCENT * LEVEL:.0f} % interval {low:+.1f} to {high:+.1f}"
        return (
            f"Premise {verdict}: trained on each of {self.num_tasks} tasks alone, with {self.num_examples} images a "
            f"class, depth {self.shallow} reaches {PERCENT * self.accuracy_shallow:.1f} % and depth {self.deep} "
            f"{PERCENT * self.accuracy_deep:.1f} %. Depth {self.shallow} minus depth {self.deep}: "
            f"{PERCENT * self.difference:+.1f} points "
            f"({interval if math.isfinite(low) else 'no interval from one task'}); met where the whole interval is "
            f"above -{PERCENT * MARGIN:g}, not met where it is below"
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PremiseRecord:
        """Return the record in a JSON object."""
        half_width = value["half_width"]
        names = [name for name in cls.__dataclass_fields__ if name in value]
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
        num_tasks: that each network is trained on.
        max_steps: of Adam on each task.
        num_threads: that the process may use.
    """

    recipes: tuple[Recipe, ...]
    file: Path
    num_tasks: int
    max_steps: int
    num_threads: int


def premise_jobs(sweep: Sweep, path: Path, amounts: Amounts, *, num_threads: int = 1) -> list[Job]:
    """Return the job that tests the premise on a study's tasks; none if it is done, or there is no pair of depths.

    Args:
        sweep: a study of image tasks with cells of several depths that have neither linear layers nor a transform.
        path: its folder.
        amounts: of the plan.
        num_threads: of the job's process.
    """
    recipes = tuple(cell.recipe for cell in premise_cells(sweep))
    if kept_record(path / PREMISE, _records) is not None or len(recipes) < 2:
        return []
    planned = PlannedPremise(recipes, path / PREMISE, amounts.premise_tasks, amounts.premise_steps, num_threads)
    return [Job(f"premise/{path.name}", run_premise, planned, can_stop=False, hopeless=[NonFiniteError.__name__])]


def premise_cells(sweep: Sweep) -> list[Cell]:
    """Return the cells of the plain networks of each depth, the shallowest first, at the sweep's first seed."""
    cells: dict[int, Cell] = {}
    for cell in cells_of(sweep):
        model = cell.recipe.model
        assert not isinstance(model, OutsideModel), "claims are of networks of recipes"
        is_plain = model.linear_layers == 0 and cell.recipe.inner.transform.name == "none"
        if is_plain and model.width == sweep.recipe.model.width:
            cells.setdefault(model.depth, cell)
    return [cells[depth] for depth in sorted(cells)]


def run_premise(planned: PlannedPremise, is_stopped: IsStopped) -> dict[str, object]:
    """Train every network on each of a few meta-test tasks alone, and write premise.json."""
    torch.set_num_threads(planned.num_threads)
    first, *deeper = planned.recipes
    began = time.monotonic()
    shallow, num_examples = _alone(first, planned)
    records = []
    for recipe in deeper:
        assert not isinstance(first.model, OutsideModel), "claims are of networks of recipes"
        assert not isinstance(recipe.model, OutsideModel), "claims are of networks of recipes"
        deep, _ = _alone(recipe, planned)
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
            wall_s=round(time.monotonic() - began, 1),
        )
        began = time.monotonic()
        records.append(record.to_json())
    atomic_write(planned.file, (json.dumps(records, indent=2) + "\n").encode())
    return {}


def _alone(recipe: Recipe, planned: PlannedPremise) -> tuple[Capacity, int]:
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
        num_tasks=planned.num_tasks,
        split=evaluation_stream(split),
        seed=recipe.evaluation.seed,
        init=recipe.model.init,
        init_seed=recipe.seed,
        max_steps=planned.max_steps,
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
