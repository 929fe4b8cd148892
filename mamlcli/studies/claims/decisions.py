"""A prediction, and its claim, is decided here by a plan of looks that is fixed before the first run.

A prediction is a set of paired differences, one per seed, positive in the predicted direction, with a margin: the
smallest effect that matters. The one-sided error of 0.025 is split over the looks, so that more seeds may be added at
each of them without a price that is not paid. At look k the interval of the mean is

    m +- t_{n-1}(1 - alpha_k) s / sqrt(n)

and the intervals of all looks hold together with probability 0.95 or more, whatever the dependence between looks and
whenever one stops (a union bound). The first verdict that a look gives is final:

    inside the margin: "no relevant effect"; else above zero: "holds"; else below zero: "fails"; else "undecided".

A claim holds when each of its predictions does. That is an intersection-union test: each at its full level gives that
level for all together. It fails, or has no relevant effect, when one of its predictions does by Holm's procedure over
sequential p-values. The level is that of one claim.

Source: repeated confidence intervals, Jennison and Turnbull 1989, JRSS B 51; intersection-union, Berger 1982,
Technometrics 24; equivalence by two one-sided tests, Schuirmann 1987; Holm 1979, Scand. J. Statistics 6. Differs from
them: the error is split over looks by a union bound, which needs no joint distribution and costs a little power.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

HOLDS, FAILS, NO_EFFECT, UNDECIDED = "holds", "fails", "no relevant effect", "undecided"

# One-sided, of one claim, over all looks.
ALPHA = 0.025

# Above this, more seeds are no answer; the report says "more than".
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Looks:
    """Looks say at which numbers of seeds the predictions are tested, and with how much of the error.

    Attributes:
        seeds: of each look, growing; at least 2.
        alphas: one-sided error of each look; together `ALPHA`.
    """

    seeds: tuple[int, ...]
    alphas: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.seeds) == len(self.alphas) > 0
        assert list(self.seeds) == sorted(set(self.seeds))
        assert self.seeds[0] > 1
        assert math.isclose(math.fsum(self.alphas), ALPHA)

    def threshold(self, look: int) -> float:
        """Return the t threshold c_k of a look, counted from 0."""
        return float(stdtrit(self.seeds[look] - 1, 1.0 - self.alphas[look]))


def one_look(num_seeds: int) -> Looks:
    """Return the plan of a single look."""
    return Looks((num_seeds,), (ALPHA,))


# For `--until-decided`: a look at 3 seeds is not worth its error.
UNTIL_DECIDED = Looks((5, 10, 20), (0.008, 0.008, 0.009))


@dataclass(frozen=True)
class Prediction:
    """A prediction says that paired differences are positive, and by which margin they matter.

    Attributes:
        key: unique in a reproduction.
        name: what is compared, in words.
        differences: [num_seeds] float64, in the order of the seeds, positive in the predicted direction.
        margin: the smallest effect that matters, > 0, in the units of the differences.
    """

    key: str
    name: str
    differences: NDArray[np.float64]
    margin: float


@dataclass(frozen=True)
class Interval:
    """An interval of the mean of differences.

    Attributes:
        num_seeds: that it rests on.
        mean: of their differences.
        half_width: m +- this; NaN with fewer than two seeds.
        level: two-sided, 1 - 2 alpha_k.
    """

    num_seeds: int
    mean: float
    half_width: float
    level: float

    @property
    def low(self) -> float:
        """The lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.half_width


@dataclass(frozen=True)
class Decision:
    """A decision is the outcome of one prediction.

    Attributes:
        prediction: what was tested.
        verdict: "holds", "fails", "no relevant effect" or "undecided".
        look: that gave the verdict, or the last one reached, from 1; 0 where none was reached.
        num_looks: of the plan.
        interval: of that look; of the seeds there are, at the first look's level, where none was reached.
        of_all_seeds: the interval of all seeds there are, at the level of the last look reached.
        p_holds: sequential p-value that the mean is zero or less; NaN before the first look.
        p_fails: sequential p-value that the mean is zero or more.
        p_no_effect: sequential p-value that the mean is as far from zero as the margin, or farther.
        size: the standardised effect: mean over standard deviation, of all seeds; NaN where there is none.
        seeds_needed: seeds at which a single look at the last look's level would decide it, with the mean and the
            variance measured; None where it is decided or nothing can be said; `MAX_SEEDS + 1` for more than that.
    """

    prediction: Prediction
    verdict: str
    look: int
    num_looks: int
    interval: Interval
    of_all_seeds: Interval
    p_holds: float
    p_fails: float
    p_no_effect: float
    size: float
    seeds_needed: int | None


def decide(predictions: Sequence[Prediction], looks: Looks) -> tuple[str, list[Decision]]:
    """Decide the predictions of one claim; return the claim's verdict and each one's.

    Holm's procedure orders the p-values of "fails" and of "no relevant effect" of all M / 2 predictions together; the
    r-th smallest is tested at ALPHA / (M - r + 1), and after the first that does not reach its level none is.

    Args:
        predictions: of one claim, at least one.
        looks: of the plan.
    """
    decisions = [decide_one(prediction, looks) for prediction in predictions]
    return _claim_verdict(decisions), decisions


def _claim_verdict(decisions: Sequence[Decision]) -> str:
    if decisions and all(decision.verdict == HOLDS for decision in decisions):
        return HOLDS
    opposite = [(d.p_fails, FAILS) for d in decisions] + [(d.p_no_effect, NO_EFFECT) for d in decisions]
    opposite = sorted((p if math.isfinite(p) else 1.0, verdict) for p, verdict in opposite)
    found = set()
    for rank, (p_value, verdict) in enumerate(opposite):
        if p_value > ALPHA / (len(opposite) - rank):
            break
        found.add(verdict)
    # Where one prediction fails and another has no relevant effect, the stronger word stands.
    return FAILS if FAILS in found else NO_EFFECT if found else UNDECIDED


def decide_one(prediction: Prediction, looks: Looks) -> Decision:
    """Decide one prediction by itself: the verdict of the first look that gives one is final."""
    data, margin = prediction.differences, prediction.margin
    verdict, reached = UNDECIDED, [k for k, num in enumerate(looks.seeds) if num <= len(data)]
    interval, look = _interval(data, looks, 0), 0
    p_values = np.full(3, np.inf)
    for k in reached:
        part = data[: looks.seeds[k]]
        of_look = _interval(part, looks, k)
        p_values = np.minimum(p_values, np.array(_p_values(part, margin)) * ALPHA / looks.alphas[k])
        if verdict == UNDECIDED:
            interval, look, verdict = of_look, k + 1, _verdict(of_look, margin)
    p_holds, p_fails, p_no_effect = np.minimum(p_values, 1.0) if reached else np.full(3, np.nan)
    last = reached[-1] if reached else 0
    deviation = float(np.std(data, ddof=1)) if len(data) > 1 else math.nan
    return Decision(
        prediction,
        verdict,
        look,
        len(looks.seeds),
        interval,
        _interval(data, looks, last),
        float(p_holds),
        float(p_fails),
        float(p_no_effect),
        float(np.mean(data)) / deviation if len(data) > 1 and deviation > 0 else math.nan,
        _seeds_needed(data, margin, looks.alphas[-1]) if verdict == UNDECIDED else None,
    )


def _verdict(interval: Interval, margin: float) -> str:
    if not math.isfinite(interval.half_width):
        return UNDECIDED
    if -margin < interval.low and interval.high < margin:
        return NO_EFFECT
    return HOLDS if interval.low > 0 else FAILS if interval.high < 0 else UNDECIDED


def _interval(data: NDArray[np.float64], looks: Looks, look: int) -> Interval:
    alpha, num = looks.alphas[look], len(data)
    mean, half_width = float(np.mean(data)) if num else math.nan, math.nan
    if num > 1 and np.isfinite(data).all():
        half_width = float(stdtrit(num - 1, 1.0 - alpha)) * float(np.std(data, ddof=1)) / math.sqrt(num)
    return Interval(num, mean, half_width, 1.0 - 2.0 * alpha)


def _p_values(data: NDArray[np.float64], margin: float) -> tuple[float, float, float]:
    """Return the one-sided p-values of "holds", "fails" and "no relevant effect"; 1 where there is no test."""
    if len(data) < 2 or not np.isfinite(data).all():
        return 1.0, 1.0, 1.0
    mean, error = float(np.mean(data)), float(np.std(data, ddof=1)) / math.sqrt(len(data))

    def above(bound: float) -> float:
        """Return the p-value against a mean of `bound` or less."""
        if error == 0.0:
            return 0.0 if mean > bound else 1.0
        return float(stdtr(len(data) - 1, -(mean - bound) / error))

    def below(bound: float) -> float:
        """Return the p-value against a mean of `bound` or more."""
        if error == 0.0:
            return 0.0 if mean < bound else 1.0
        return float(stdtr(len(data) - 1, (mean - bound) / error))

    return above(0.0), below(0.0), max(above(-margin), below(margin))


def _seeds_needed(data: NDArray[np.float64], margin: float, alpha: float) -> int | None:
    if len(data) < 2 or not np.isfinite(data).all():
        return None
    mean, deviation = float(np.mean(data)), float(np.std(data, ddof=1))
    for num in range(len(data) + 1, MAX_SEEDS + 1):
        half_width = float(stdtrit(num - 1, 1.0 - alpha)) * deviation / math.sqrt(num)
        if _verdict(Interval(num, mean, half_width, 1.0 - 2.0 * alpha), margin) != UNDECIDED:
            return num
    return MAX_SEEDS + 1


def log_odds(accuracy: ArrayLike) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), which has no ceiling; 0 and 1 are drawn in by half of one in ten thousand."""
    p = np.clip(np.asarray(accuracy, dtype=np.float64), 0.5e-4, 1 - 0.5e-4)
    return np.asarray(np.log(p / (1.0 - p)))
