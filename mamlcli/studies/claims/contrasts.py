"""A contrast is a prediction as the plan registers it: which cells are compared, on what, and by which margin.

Every prediction of the paper's claims is a linear combination of scores of one seed's cells, with its sign such that
the predicted direction is positive. So it can be written down before the first run, in numbers and names alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mamlcli.studies.claims.decisions import Prediction

# The measures of a cell: query loss in nats, log-odds of query accuracy, query loss with each task's loss capped at
# that of guessing, and the scaled distance of the learned operator to the best one.
LOSS, LOG_ODDS, CAPPED_LOSS, OPERATOR = "loss", "log_odds", "capped_loss", "operator_distance"
MEASURE_WORDS = {
    LOSS: "query loss",
    LOG_ODDS: "log-odds of query accuracy",
    CAPPED_LOSS: "query loss, each task's capped at that of guessing",
    OPERATOR: "distance of the learned operator to the best one",
}

# measure -> value key -> seed -> the seed's mean over its meta-test tasks
Scores = Mapping[str, Mapping[str, Mapping[int, float]]]

# Ends the value key of a stack that was collapsed into one layer before it adapted.
COLLAPSED = ", collapsed"


@dataclass(frozen=True)
class CellValue:
    """A cell value is what one cell of a family has otherwise than the family's recipe.

    Attributes:
        depth: `model.depth`.
        layers: `model.linear_layers`.
        optimizer: `inner.transform.name`.
        width: `model.width`; None for the recipe's.
    """

    depth: int
    layers: int = 0
    optimizer: str = "none"
    width: int | None = None

    @property
    def key(self) -> str:
        """The value in words, which names it everywhere: "depth 1, 2 linear layers", "depth 2, kfo"."""
        parts = [f"depth {self.depth}"]
        parts += [f"width {self.width}"] if self.width is not None else []
        parts += [f"{self.layers} linear layer{'s' if self.layers > 1 else ''}"] if self.layers else []
        parts += [self.optimizer] if self.optimizer != "none" else []
        return ", ".join(parts)


# Deeper plain networks of about as many parameters, on images of one channel and 5 classes: as the shallow network of
# width 32 (541 and 549), and as that one with its KFO (4,801 and 549 + 4,232).
EQUAL_TO_SHALLOW = CellValue(4, width=4)
EQUAL_TO_KFO = CellValue(2, width=22)


@dataclass(frozen=True)
class Contrast:
    """A contrast is a registered prediction: the sum of its terms is positive.

    Attributes:
        key: unique in a plan, as in "C3/glyphs-maml/2 linear layers/loss".
        claim: "C1" to "C7".
        study: key of the family that its cells belong to.
        measure: one of those above.
        words: what is compared, without the study and the measure, as in "2 linear layers better than none".
        terms: (value key, weight).
        margin: the smallest effect that matters, in units of the measure.
        decides: whether the claim's verdict rests on it; otherwise it is a row of its own beside the claim.
    """

    key: str
    claim: str
    study: str
    measure: str
    words: str
    terms: tuple[tuple[str, float], ...]
    margin: float
    decides: bool = True

    @property
    def cells(self) -> tuple[str, ...]:
        """The value keys of the cells that must be trained for it."""
        return tuple(dict.fromkeys(value.removesuffix(COLLAPSED) for value, _ in self.terms))

    def differences(self, scores: Scores) -> dict[int, float]:
        """Return the difference of each seed that has a score in every term, by seed, in growing order."""
        of_values = [scores.get(self.measure, {}).get(value, {}) for value, _ in self.terms]
        seeds = sorted(set(of_values[0]).intersection(*of_values[1:]))
        return {
            seed: float(sum(weight * of[seed] for (_, weight), of in zip(self.terms, of_values, strict=True)))
            for seed in seeds
        }

    def prediction(self, scores: Scores, study_words: str) -> Prediction:
        """Return the prediction with the differences that there are."""
        differences = np.array(list(self.differences(scores).values()), dtype=np.float64)
        name = f"{study_words}: {self.words}, on {MEASURE_WORDS[self.measure]}"
        return Prediction(self.key, name, differences, self.margin)

    def to_json(self) -> dict[str, Any]:
        """Return the contrast as plan.json holds it."""
        return {**asdict(self), "terms": [list(term) for term in self.terms]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Contrast:
        """Return the contrast in plan.json."""
        return cls(**{**value, "terms": tuple((name, float(weight)) for name, weight in value["terms"])})


def better(a: str, b: str, measure: str) -> tuple[tuple[str, float], ...]:
    """Return the terms that are positive where value `a` adapts better than `b`."""
    sign = 1.0 if measure == LOG_ODDS else -1.0
    return ((a, sign), (b, -sign))


def advantage_shrinks(shallow: tuple[str, str], deep: tuple[str, str], measure: str) -> tuple[tuple[str, float], ...]:
    """Return the terms that are positive where the advantage of a pair's first over its second is larger shallow."""
    minus = tuple((value, -weight) for value, weight in better(*deep, measure))
    return (*better(*shallow, measure), *minus)
