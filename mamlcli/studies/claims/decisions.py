"""A prediction holds, fails or is undecided by stated rules over paired differences, and so does its claim.

A prediction is a set of paired differences, one per seed, and a sign. It `holds` when the interval of the mean
lies wholly on the predicted side of zero, `fails` when wholly on the other, and is `undecided` otherwise, and
always with fewer than three seeds. Several predictions of one claim share an error of 5 % by Holm's step-down
procedure. A claim holds when all of its predictions hold, fails when any fails, and is undecided otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
ERROR_RATE = 0.05
MIN_SEEDS = 3

# Above this, more seeds are no answer; the report says "more than".
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Prediction:
    """A prediction says which sign paired differences have.

    Attributes:
        name: what is compared, in words.
        differences: [num_seeds] float64, paired by seed.
        predicted_sign: -1 or 1.
    """

    name: str
    differences: NDArray[np.float64]
    predicted_sign: int


@dataclass(frozen=True)
class Decision:
    """A decision is the outcome of one prediction.

    Attributes:
        prediction: what was tested.
        verdict: "holds", "fails" or "undecided".
        mean: of the differences.
        half_width: of the interval of the mean at `level`, from Student's t over seeds; NaN for one seed.
        level: of the interval, such as 0.95; higher where Holm's procedure asks for it.
        p_value: two-sided, that the mean is zero; NaN for one seed.
        seeds_needed: seeds at which, with the mean and variance measured, the interval would leave zero; None where
            it is decided or nothing can be said.
    """

    prediction: Prediction
    verdict: str
    mean: float
    half_width: float
    level: float
    p_value: float
    seeds_needed: int | None


def decide(predictions: Sequence[Prediction]) -> tuple[str, list[Decision]]:
    """Decide the predictions of one claim together; return the claim's verdict and each one's.

    Holm: they are taken in order of their p-values; the j-th of m (from 0) at level 1 - 0.05 / (m - j); after
    the first whose interval contains zero, all later ones are undecided.

    Args:
        predictions: of one claim, at least one.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = sorted(range(len(predictions)), key=lambda index: _sort_key(predictions[index].differences))
    decisions: dict[int, Decision] = {}
    closed_at: float | None = None
    for rank, index in enumerate(order):
        error_rate = ERROR_RATE / (len(predictions) - rank)
        decision = _decide_one(predictions[index], error_rate, closed_at)
        if closed_at is None and decision.verdict == UNDECIDED:
            closed_at = error_rate
        decisions[index] = decision
    in_order = [decisions[index] for index in range(len(predictions))]
    return combine([decision.verdict for decision in in_order]), in_order


def _sort_key(differences: NDArray[np.float64]) -> float:
    p_value = _p_value(differences)
    return p_value if math.isfinite(p_value) else 1.0


def combine(verdicts: Sequence[str]) -> str:
    """Return a claim's verdict: holds if all hold, fails if any fails, else undecided."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts and all(verdict == HOLDS for verdict in verdicts) else UNDECIDED


def _decide_one(prediction: Prediction, error_rate: float, closed_at: float | None) -> Decision:
    """Decide one prediction; `closed_at` is the error rate at which Holm's procedure stopped, None while it is open."""
    data = prediction.differences
    num, mean = len(data), float(np.mean(data))
    deviation = float(np.std(data, ddof=1)) if num > 1 else math.nan
    half_width = _half_width(deviation, num, error_rate)
    verdict, needed = UNDECIDED, None
    if closed_at is None and num >= MIN_SEEDS and abs(mean) > half_width:
        verdict = HOLDS if math.copysign(1.0, mean) == prediction.predicted_sign else FAILS
    else:
        # Where Holm's procedure stopped at an earlier prediction, that level must be reached first, with more seeds.
        needed = _seeds_needed(mean, deviation, error_rate if closed_at is None else closed_at, num + 1)
    return Decision(prediction, verdict, mean, half_width, 1.0 - error_rate, _p_value(data), needed)


def _half_width(deviation: float, num: int, error_rate: float) -> float:
    if num < 2:
        return math.nan
    return float(stdtrit(num - 1, 1.0 - error_rate / 2)) * deviation / math.sqrt(num)


def _p_value(data: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of Student's t test that the mean is zero; NaN where there is none."""
    if len(data) < 2 or not np.isfinite(data).all():
        return math.nan
    mean, deviation = float(np.mean(data)), float(np.std(data, ddof=1))
    if deviation == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    statistic = abs(mean) / (deviation / math.sqrt(len(data)))
    return float(2.0 * stdtr(len(data) - 1, -statistic))


def _seeds_needed(mean: float, deviation: float, error_rate: float, least: int) -> int | None:
    """Return the smallest number of seeds whose interval would leave zero; MAX_SEEDS + 1 if none up to that."""
    if not math.isfinite(deviation) or not math.isfinite(mean) or mean == 0.0:
        return None
    for num in range(max(least, MIN_SEEDS), MAX_SEEDS + 1):
        if _half_width(deviation, num, error_rate) < abs(mean):
            return num
    return MAX_SEEDS + 1


def slopes(values: ArrayLike, axis: ArrayLike) -> NDArray[np.float64]:
    """Return the least-squares slope over an axis for each seed.

    Args:
        values: [num_axis_values, num_seeds] float.
        axis: [num_axis_values] float, such as depths.

    Returns:
        [num_seeds] float64, change per unit of the axis.
    """
    y, x = np.asarray(values, dtype=np.float64), np.asarray(axis, dtype=np.float64)
    centred = x - x.mean()
    return np.asarray(centred @ (y - y.mean(axis=0)) / (centred @ centred))


def log_odds(accuracy: ArrayLike) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), which has no ceiling; 0 and 1 are drawn in by half of one in ten thousand."""
    p = np.clip(np.asarray(accuracy, dtype=np.float64), 0.5e-4, 1 - 0.5e-4)
    return np.asarray(np.log(p / (1.0 - p)))
