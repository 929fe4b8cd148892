"""The types here hold the result of a study, as result.json does. They import no torch.

A result is made once the cells are done, written as JSON, and shown in tables, figures, verdicts and reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mamlcli.common.statistics import Score
from mamlcli.runs.report import Protocol
from mamlcli.studies.sweeps.cell_result import CellResult
from mamlcli.studies.sweeps.scores import GridValue, StudyScores, Value, value_from_json, value_to_json


@dataclass(frozen=True)
class Comparison:
    """A comparison is the paired difference of two axis values.

    Attributes:
        a, b: the values; the difference is a minus b.
        metric: "loss" or "accuracy", after adaptation.
        difference: its mean and interval.
        over: what the pairs are, "seeds" or "tasks".
        num_pairs: pairs.
    """

    a: Value
    b: Value
    metric: str
    difference: Score
    over: str
    num_pairs: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Comparison:
        """Return the comparison in a JSON object."""
        scores = StudyScores.from_json({"difference": value["difference"]})
        values = value_from_json(value["a"]), value_from_json(value["b"])
        over = scores.over or "seeds"
        return cls(*values, value["metric"], scores.values["difference"], over, value["num_pairs"])

    def to_json(self) -> dict[str, object]:
        """Return the comparison as result.json holds it."""
        return {
            "a": value_to_json(self.a),
            "b": value_to_json(self.b),
            "metric": self.metric,
            "difference": self.difference.to_json(self.over),
            "num_pairs": self.num_pairs,
        }


@dataclass(frozen=True)
class ClosedForm:
    """A closed form holds the query losses of linear regression that are known without training, with label noise.

    Attributes:
        inner_lr, inner_steps: of the inner loop that the forms are of.
        shallow_infinite_support: the least loss of one linear layer, whatever is meta-learned, were support sets
            endless.
        shallow_from_zero: that of the best start, zero, with the support sets there are, measured on the meta-test
            tasks (Monte Carlo); its interval is over tasks.
        shallow_one_step: exact for one inner step, one layer.
        preconditioned_one_step: exact for one inner step, one layer whose gradient the best matrix multiplies.
        noise_floor: the loss of the true weights.
    """

    inner_lr: float
    inner_steps: int
    shallow_infinite_support: float
    shallow_from_zero: Score
    shallow_one_step: float
    preconditioned_one_step: float
    noise_floor: float

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ClosedForm:
        """Return the forms in a JSON object."""
        shallow = StudyScores.from_json(value).values["shallow_from_zero"]
        return cls(**{**value, "shallow_from_zero": shallow})

    def to_json(self) -> dict[str, object]:
        """Return the forms as result.json holds them."""
        return asdict(self) | {"shallow_from_zero": self.shallow_from_zero.to_json("tasks")}


@dataclass(frozen=True)
class StudyResult:
    """A study result is all that a study came to.

    Attributes:
        study: the command's name.
        axis: the recipe key that varies; on a grid several, joined by " x ".
        recipe: the name of the base recipe.
        seeds: asked for, of every cell.
        directory: the study's folder.
        inner_lr_is_chosen: whether each cell's inner learning rate was chosen by meta-validation.
        started_from: the trained run that every cell started from; None for a fresh start.
        cells: of the values that have finished, in the order of the axis.
        comparisons: paired differences.
        protocol: of the evaluation, as evaluation.json holds it; None where no cell has finished.
        references: floors and baselines on the meta-test tasks, by name.
        chance_accuracy: of guessing; None for regression.
        failures: (cell or job in words, reason) of those that failed.
        closed_form: of linear regression, where it applies.
        tasks: "of each seed" where every seed has tasks of its own; None where all have the same.
        versions: of code and libraries that made the cells, by name; several where cells differ.
    """

    study: str
    axis: str
    recipe: str
    seeds: tuple[int, ...]
    directory: str
    inner_lr_is_chosen: bool
    started_from: str | None
    cells: tuple[CellResult, ...]
    comparisons: tuple[Comparison, ...]
    protocol: Protocol | None = None
    references: Mapping[str, StudyScores] = field(default_factory=dict)
    chance_accuracy: float | None = None
    failures: tuple[tuple[str, str], ...] = ()
    closed_form: ClosedForm | None = None
    tasks: str | None = None
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_grid(self) -> bool:
        """Whether more than one key varies."""
        return bool(self.cells) and isinstance(self.cells[0].value, GridValue)

    @property
    def main_metric(self) -> str:
        """The metric that counts: `accuracy`, or `loss` for regression."""
        return "accuracy" if "accuracy" in self.cells[0].final else "loss"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StudyResult:
        """Return the result in the content of result.json; KeyError names a key that is missing."""
        closed_form, protocol = value.get("closed_form"), value.get("protocol")
        return cls(
            study=value["study"],
            axis=value["axis"],
            recipe=value["recipe"],
            seeds=tuple(value["seeds"]),
            directory=value["directory"],
            inner_lr_is_chosen=value["inner_lr_is_chosen"],
            started_from=value["started_from"],
            cells=tuple(map(CellResult.from_json, value["cells"])),
            comparisons=tuple(map(Comparison.from_json, value["comparisons"])),
            protocol=None if protocol is None else Protocol.from_json(protocol),
            references={name: StudyScores.from_json(scores) for name, scores in value.get("references", {}).items()},
            chance_accuracy=value.get("chance_accuracy"),
            failures=tuple((failure["cell"], failure["reason"]) for failure in value.get("failed", ())),
            closed_form=closed_form and ClosedForm.from_json(closed_form),
            tasks=value.get("tasks"),
            versions={name: tuple(found) for name, found in value.get("versions", {}).items()},
        )

    def to_json(self) -> dict[str, object]:
        """Return the content of result.json; what there is not is left out."""
        value: dict[str, object] = {
            "study": self.study,
            "axis": self.axis,
            "recipe": self.recipe,
            "seeds": list(self.seeds),
            "directory": self.directory,
            "inner_lr_is_chosen": self.inner_lr_is_chosen,
            "started_from": self.started_from,
            "cells": [cell.to_json() for cell in self.cells],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
        }
        if self.protocol is not None:
            value["protocol"] = self.protocol.to_json()
            value["references"] = {name: scores.to_json() for name, scores in self.references.items()}
        if self.chance_accuracy is not None:
            value["chance_accuracy"] = self.chance_accuracy
        value["failed"] = [{"cell": label, "reason": reason} for label, reason in self.failures]
        if self.closed_form is not None:
            value["closed_form"] = self.closed_form.to_json()
        if self.tasks is not None:
            value["tasks"] = self.tasks
        if self.versions:
            value["versions"] = {name: list(found) for name, found in self.versions.items()}
        return value


@dataclass(frozen=True)
class Advantage:
    """An advantage is what an optimizer of a grid gains over the first one at the same depth.

    Attributes:
        depth: of both.
        optimizer: the one that is compared.
        difference: its metric minus that of the first one, paired.
    """

    depth: int
    optimizer: str
    difference: Score


def advantages_at_each_depth(result: StudyResult, metric: str) -> list[Advantage]:
    """Return the advantages of a grid's optimizers on a metric."""
    return [
        Advantage(comparison.a.depth, comparison.a.optimizer, comparison.difference)
        for comparison in result.comparisons
        if comparison.metric == metric
        and isinstance(comparison.a, GridValue)
        and isinstance(comparison.b, GridValue)
        and comparison.a.depth == comparison.b.depth
    ]
