"""The types here hold numbers and axis values of a study's result, and give their JSON. They import no torch.

The name of an interval in JSON says what it is over: `ci95_over_seeds` or `ci95_over_tasks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamlcli.common.statistics import Score
from mamlcli.runs import report

METRICS = ("loss", "accuracy")


@dataclass(frozen=True)
class StudyScores:
    """Study scores are numbers by name, such as loss and accuracy on query sets, with intervals over one thing.

    Attributes:
        values: the numbers that there are, in the order of the file.
        over: what their intervals are over, "seeds" or "tasks"; None for numbers without intervals.
    """

    values: Mapping[str, Score]
    over: str | None

    def __contains__(self, metric: str) -> bool:
        return metric in self.values

    def of(self, metric: str) -> Score | None:
        """Return a number with its interval; None if there is none of that name."""
        return self.values.get(metric)

    def mean(self, metric: str) -> float:
        """Return a mean to calculate with or to draw: NaN where there is none or it overflowed."""
        score = self.values.get(metric)
        return math.nan if score is None or score.mean is None else score.mean

    def half_width(self, metric: str) -> float:
        """Return the half-width of an interval; 0 where there is none."""
        score = self.values.get(metric)
        return 0.0 if score is None or score.ci95 is None else score.ci95

    @classmethod
    def of_run(cls, scores: report.Scores, metrics: Sequence[str] = report.METRICS) -> StudyScores:
        """Return the scores of one run, whose intervals are over tasks.

        Args:
            scores: of the run.
            metrics: those that are wanted, in order.
        """
        known = {metric: scores.of(metric) for metric in metrics}
        return cls({metric: score for metric, score in known.items() if score is not None}, "tasks")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StudyScores:
        """Return the numbers in a JSON object; entries that are no numbers with a mean are passed over."""
        scores = {name: item for name, item in value.items() if isinstance(item, Mapping) and "mean" in item}
        over = next((key.removeprefix("ci95_over_") for item in scores.values() for key in item if key != "mean"), None)
        key = f"ci95_over_{over}"
        return cls({name: Score(item["mean"], item.get(key)) for name, item in scores.items()}, over)

    def to_json(self) -> dict[str, object]:
        """Return the numbers as result.json holds them."""
        return {name: score_to_json(score, self.over) for name, score in self.values.items()}


def score_to_json(score: Score, over: str | None) -> dict[str, float | None]:
    """Return a number as result.json holds it, without an interval where it is over nothing."""
    return {"mean": score.mean} if over is None else score.to_json(over)


@dataclass(frozen=True)
class GridValue:
    """A grid value is a value on more than one axis.

    Attributes:
        depth: `model.depth`.
        optimizer: `inner.transform.name`.
        layers: `model.linear_layers`; None where the study does not vary it.
        width: `model.width`; None for the recipe's.
    """

    depth: int
    optimizer: str
    layers: int | None = None
    width: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the value as result.json holds it."""
        layers = {} if self.layers is None else {"layers": self.layers}
        width = {} if self.width is None else {"width": self.width}
        return {"depth": self.depth, **width, **layers, "optimizer": self.optimizer}


# What a study's axis takes: a number, a name, or both on a grid.
Value = int | str | GridValue


def value_from_json(value: Any) -> Value:
    """Return the axis value in a JSON value."""
    if isinstance(value, Mapping):
        return GridValue(value["depth"], value["optimizer"], value.get("layers"), value.get("width"))
    assert isinstance(value, int | str)
    return value


def value_to_json(value: Value) -> object:
    """Return an axis value as study.json and result.json hold it."""
    return value.to_json() if isinstance(value, GridValue) else value
