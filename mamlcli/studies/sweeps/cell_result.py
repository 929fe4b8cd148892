"""The types here hold the result of one axis value: scores, collapse, capacity, rates. They import no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mamlcli.studies.sweeps.scores import METRICS, GridValue, StudyScores, Value, value_from_json, value_to_json

# The file of a run that holds its `CollapseRecord`.
COLLAPSE = "collapse.json"


@dataclass(frozen=True)
class CurvePoint:
    """A curve point holds the mean scores of a cell after some inner steps.

    Attributes:
        step: inner steps done; 0 is before adaptation.
        scores: "loss" and "accuracy" on query sets, "support_loss" and "support_accuracy" on support sets.
    """

    step: int
    scores: StudyScores

    def to_json(self) -> dict[str, object]:
        """Return the point as result.json holds it."""
        return {"step": self.step, **self.scores.to_json()}


@dataclass(frozen=True)
class RateCandidate:
    """A rate candidate is one of the inner learning rates that a cell's was chosen from.

    Attributes:
        inner_lr: the rate.
        status: "done", "diverged" or "failed".
        validation_score: best meta-validation score, mean over seeds: accuracy, or minus the loss; None unless done.
    """

    inner_lr: float
    status: str
    validation_score: float | None


@dataclass(frozen=True)
class CollapseRecord:
    """A collapse record says how far adapted stacks and their collapsed models are apart; collapse.json holds it.

    Attributes:
        num_parameters, num_parameters_collapsed: of the stack and of the model with its layers multiplied into one.
        num_tasks: tasks whose outputs were compared.
        largest_difference, largest_relative_difference: of the outputs; relative to the largest output. NaN where no
            task could be compared.
        tolerance: the most that rounding explains of the relative one.
        num_not_finite: further tasks, on which one of the two models has outputs that are not finite.
    """

    num_parameters: int
    num_parameters_collapsed: int
    num_tasks: int
    largest_difference: float
    largest_relative_difference: float
    tolerance: float
    num_not_finite: int = 0

    @property
    def is_compared(self) -> bool:
        """Whether there is a task on which both models have finite outputs."""
        return math.isfinite(self.largest_relative_difference)

    @property
    def agrees(self) -> bool:
        """Whether the outputs of all tasks compared are the same up to rounding."""
        return not self.largest_relative_difference > self.tolerance

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CollapseRecord:
        """Return the record in a JSON object; null there is NaN here."""
        given = {"num_not_finite": 0, **value}  # older versions compared all tasks
        differences = ("largest_difference", "largest_relative_difference")
        nans = {name: math.nan for name in differences if given[name] is None}
        return cls(**{name: given[name] for name in cls.__dataclass_fields__} | nans)

    def to_json(self) -> dict[str, object]:
        """Return the record as collapse.json and result.json hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Collapse:
    """A collapse sums up the collapse records of a cell's runs.

    Attributes:
        num_parameters: of the collapsed models.
        worst: the record of the run that is farthest from its collapsed model, of those that could be compared.
    """

    num_parameters: int
    worst: CollapseRecord

    @classmethod
    def of(cls, records: Sequence[CollapseRecord]) -> Collapse:
        """Return the collapse of some runs of one cell, at least one."""
        worst = max(records, key=lambda record: (record.is_compared, record.largest_relative_difference))
        return cls(records[0].num_parameters_collapsed, worst)

    def to_json(self) -> dict[str, object]:
        """Return the keys that a cell has of it."""
        return {
            "num_parameters_collapsed": self.num_parameters,
            "collapse_max_difference": self.worst.largest_relative_difference,
            "collapse": self.worst.to_json(),
        }


@dataclass(frozen=True)
class CapacityRecord:
    """A capacity record says what a cell's network reaches without meta-learning; capacity/<value>.json holds it.

    Attributes:
        scores: loss and accuracy over tasks.
        references: floors and baselines on the same tasks, by name.
        shots: examples that each task was learned from, of each class for images.
        num_tasks, num_converged: tasks, and those that came to rest.
        num_steps: gradient steps taken.
    """

    scores: StudyScores
    references: Mapping[str, StudyScores]
    shots: int
    num_tasks: int
    num_converged: int
    num_steps: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CapacityRecord:
        """Return the record in a JSON object."""
        scores = {metric: value[metric] for metric in METRICS if metric in value}
        return cls(
            StudyScores.from_json(scores),
            {name: StudyScores.from_json(item) for name, item in value["references"].items()},
            *(value[key] for key in ("shots", "num_tasks", "num_converged", "num_steps")),
        )

    def to_json(self) -> dict[str, object]:
        """Return the record as its file and result.json hold it."""
        return {
            **self.scores.to_json(),
            "references": {name: scores.to_json() for name, scores in self.references.items()},
            "shots": self.shots,
            "num_tasks": self.num_tasks,
            "num_converged": self.num_converged,
            "num_steps": self.num_steps,
        }


@dataclass(frozen=True)
class CellResult:
    """A cell result is what one axis value of a study came to, over its seeds.

    Attributes:
        value: of the axis.
        seeds: of its finished runs.
        run_dirs: their folders.
        inner_lr: the rate of these runs.
        curve: mean scores at every inner step, at least one.
        num_parameters, num_transform_parameters: of the model, and of the gradient transform.
        candidates: the inner learning rates to choose from; empty where there was no choice.
        collapse: of its linear layers, where the study collapses them.
        capacity: what its network reaches without meta-learning, where that was asked for.
        diverged_tasks: share of the tasks of all its runs that diverged, as `finished.diverged_share` defines it.
    """

    value: Value
    seeds: tuple[int, ...]
    run_dirs: tuple[str, ...]
    inner_lr: float
    curve: tuple[CurvePoint, ...]
    num_parameters: int
    num_transform_parameters: int
    candidates: tuple[RateCandidate, ...] = ()
    collapse: Collapse | None = None
    capacity: CapacityRecord | None = None
    diverged_tasks: float = 0.0

    @property
    def final(self) -> StudyScores:
        """The scores after the last inner step."""
        return self.curve[-1].scores

    @property
    def grid(self) -> GridValue:
        """The value of a cell of a grid."""
        assert isinstance(self.value, GridValue), "not a cell of a grid"
        return self.value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CellResult:
        """Return the cell in a JSON object; keys that older versions wrote besides are not read."""
        collapse, capacity = value.get("collapse"), value.get("capacity")
        return cls(
            value=value_from_json(value["value"]),
            seeds=tuple(value["seeds"]),
            run_dirs=tuple(value["run_dirs"]),
            inner_lr=value["inner_lr"],
            curve=tuple(CurvePoint(point["step"], StudyScores.from_json(point)) for point in value["curve"]),
            num_parameters=value["num_parameters"],
            num_transform_parameters=value["num_transform_parameters"],
            candidates=tuple(RateCandidate(**candidate) for candidate in value.get("inner_lr_candidates", ())),
            collapse=collapse and Collapse(value["num_parameters_collapsed"], CollapseRecord.from_json(collapse)),
            capacity=capacity and CapacityRecord.from_json(capacity),
            diverged_tasks=value.get("diverged_tasks", 0.0),
        )

    def to_json(self) -> dict[str, object]:
        """Return the cell as result.json holds it; what there is not is left out."""
        final = {name: score for name, score in self.final.to_json().items() if name in METRICS}
        value: dict[str, object] = {
            "value": value_to_json(self.value),
            "seeds": list(self.seeds),
            "run_dirs": list(self.run_dirs),
            "inner_lr": self.inner_lr,
            **{metric: final[metric] for metric in METRICS if metric in final},
            "curve": [point.to_json() for point in self.curve],
            "num_parameters": self.num_parameters,
            "num_transform_parameters": self.num_transform_parameters,
        }
        if self.candidates:
            value["inner_lr_candidates"] = [asdict(candidate) for candidate in self.candidates]
        if self.collapse is not None:
            value |= self.collapse.to_json()
        if self.capacity is not None:
            value["capacity"] = self.capacity.to_json()
        if self.diverged_tasks:
            value["diverged_tasks"] = self.diverged_tasks
        return value
