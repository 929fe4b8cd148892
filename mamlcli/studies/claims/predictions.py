"""A claim predicts the signs of differences between a study's cells; the predictions are made and tested here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mamlcli.studies.claims.decisions import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Decision,
    Prediction,
    combine,
    decide,
    log_odds,
    slopes,
)
from mamlcli.studies.layers.optimum import OptimumReport
from mamlcli.studies.sweeps.result import StudyResult

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """A study holds the finished cells of one family of tasks under one algorithm.

    Attributes:
        key: as in "glyphs-maml".
        words: for tables, as in "glyphs, MAML".
        scores: metric -> value key -> [num_seeds] float64, the seeds' means over meta-test tasks after adaptation.
        result: of the sweep.
        operators: value key -> the learned operators of each seed beside the best one; linear regression alone.
    """

    key: str
    words: str
    scores: Mapping[str, Mapping[str, Array]]
    result: StudyResult
    operators: Mapping[str, Sequence[OptimumReport]] = field(default_factory=dict)

    def has(self, *values: str) -> bool:
        """Return whether all these values have a score of every seed."""
        return all(value in self.scores["loss"] for value in values)


@dataclass(frozen=True)
class ExactCheck:
    """An exact check is a statement that is true to rounding or false.

    Attributes:
        name: in words.
        value: the largest error found.
        tolerance: the most that rounding explains.
    """

    name: str
    value: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the error is one that rounding explains."""
        return self.value <= self.tolerance


@dataclass(frozen=True)
class ClaimResult:
    """A claim result is a decided claim with all that its verdict rests on.

    Attributes:
        id: "C1" to "C7".
        statement: of the claim.
        rule: what it predicts of the numbers measured.
        verdict: "holds", "fails" or "undecided".
        decisions: of its predictions.
        checks: its exact parts.
        missing: what could not be looked at, and why.
        notes: further numbers, in words; they decide nothing.
    """

    id: str
    statement: str
    rule: str
    verdict: str
    decisions: list[Decision]
    checks: list[ExactCheck] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def value_key(depth: int, layers: int = 0, optimizer: str = "none") -> str:
    """Return the name of one cell of a study: its depth, appended linear layers, and transform."""
    parts = [f"depth {depth}", *([f"{layers} linear layer{'s' if layers > 1 else ''}"] if layers else [])]
    return ", ".join([*parts, *([optimizer] if optimizer != "none" else [])])


def difference(study: Study, a: str, b: str, *, sign: int) -> Prediction:
    """Predict the sign of the query loss of a minus that of b."""
    loss = study.scores["loss"]
    return Prediction(f"{study.words}: query loss, {a} minus {b}", loss[a] - loss[b], sign)


def depth_slope(study: Study, depths: Sequence[int]) -> Prediction:
    """Predict that the query loss falls with depth."""
    values = [study.scores["loss"][value_key(depth)] for depth in depths]
    return Prediction(f"{study.words}: slope of query loss over depth", slopes(values, depths), -1)


def advantage_slopes(study: Study, depths: Sequence[int], optimizer: str) -> list[Prediction]:
    """Predict that the advantage of a transform over none shrinks with depth, on query loss and on log-odds."""
    slopes_of_advantage = []
    for metric, name, sign in (("loss", "query loss", 1), ("accuracy", "log-odds of accuracy", -1)):
        scores = study.scores[metric]
        convert: Callable[[Array], Array] = log_odds if metric == "accuracy" else np.asarray
        values = [
            convert(scores[value_key(depth, optimizer=optimizer)]) - convert(scores[value_key(depth)])
            for depth in depths
        ]
        name = f"{study.words}: slope over depth of the difference {optimizer} minus none, on {name}"
        slopes_of_advantage.append(Prediction(name, slopes(values, depths), sign))
    return slopes_of_advantage


def decided(
    claim: str,
    statement: str,
    rule: str,
    predictions: Sequence[Prediction],
    *,
    checks: Sequence[ExactCheck] = (),
    missing: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ClaimResult:
    """Decide a claim: all predictions together, and every exact check."""
    decisions: list[Decision] = []
    verdicts: list[str] = []
    if predictions:
        verdict, decisions = decide(predictions)
        verdicts.append(verdict)
    verdicts += [HOLDS if check.holds else FAILS for check in checks]
    if missing or not predictions:
        verdicts.append(UNDECIDED)
    return ClaimResult(claim, statement, rule, combine(verdicts), decisions, list(checks), list(missing), list(notes))


def paired_differences(
    studies: Sequence[Study], pairs: Mapping[str, Sequence[tuple[str, str]]]
) -> tuple[list[Prediction], list[str]]:
    """Return the predictions a < b on query loss, and what is missing for others."""
    predictions, missing = [], []
    for study in studies:
        for a, b in pairs.get(study.key, ()):
            if study.has(a, b):
                predictions.append(difference(study, a, b, sign=-1))
            else:
                missing.append(f"{study.words}: {a} or {b} did not finish")
    return predictions, missing


def without_result(studies: Sequence[Study], complete: Sequence[Study], what: str) -> list[str]:
    """Return in words which studies are not complete, and what of them did not finish."""
    return [f"{study.words}: {what} did not finish" for study in studies if study not in complete]
