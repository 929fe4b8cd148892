"""A prediction, and its claim, is decided here by a plan of looks that is fixed before the first run.

A prediction is a set of paired differences, one per seed, positive in the predicted direction, with a margin: the
smallest effect that matters. The one-sided error of 0.025 is split over the looks, so that more seeds may be added at
each of them without a price that is not paid. At look k the interval of the mean is

    m +- t_{n-1}(1 - alpha_k) s / sqrt(n)

and the intervals of all looks hold together with probability 0.95 or more, whatever the dependence between looks and
whenever one stops (a union bound). The first verdict that a look gives is final:

    inside the margin: "no relevant effect"; else above zero: "holds"; else below zero: "fails"; else "undecided".

A claim holds when each of its predictions does. That is an intersection-union test: each at its full level gives that
level for all together. It fails, or has no relevant effect, when one of its predictions has that verdict and Holm's
procedure over sequential p-values rejects what the verdict denies. The level is that of one claim. Its verdict, too, is
final at the first look that gives one, though later looks may add seeds to its cells, which other claims need.

Differences that are all the same, as those of two models that always guess, say nothing of how others would vary: a
t interval of width zero holds for no distribution, so they are undecided.

Source: repeated confidence intervals, Jennison and Turnbull 1989, JRSS B 51; intersection-union, Berger 1982,
Technometrics 24; equivalence by two one-sided tests, Schuirmann 1987; Holm 1979, Scand. J. Statistics 6. Differs from
them: the error is split over looks by a union bound, which needs no joint distribution and costs a little power.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

HOLDS, FAILS, NO_EFFECT, UNDECIDED = "holds", "fails", "no relevant effect", "undecided"

# One-sided, of one claim, over all looks.
ALPHA = 0.025

# Differences that vary by less than this share of the largest do so by rounding alone.
ROUNDING = 1e-12

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
        half_width: m +- this; NaN with fewer than two seeds, or where all differences are the same.
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
    verdict, decisions = UNDECIDED, [decide_one(prediction, looks) for prediction in predictions]
    for look in range(1, len(looks.seeds) + 1):
        if verdict == UNDECIDED:
            verdict = _claim_verdict([decide_one(prediction, looks, until=look) for prediction in predictions])
    return verdict, decisions


def _claim_verdict(decisions: Sequence[Decision]) -> str:
    if decisions and all(decision.verdict == HOLDS for decision in decisions):
        return HOLDS
    found = {decision.verdict for decision in _rejected(decisions)}
    # Where one prediction fails and another has no relevant effect, the stronger word stands.
    return FAILS if FAILS in found else NO_EFFECT if NO_EFFECT in found else UNDECIDED


def _rejected(decisions: Sequence[Decision]) -> list[Decision]:
    """Return the decisions that fail or have no relevant effect by Holm's procedure, in agreement with their verdict.

    One whose interval is below zero and inside the margin may have small p-values of both; its verdict is one.
    """
    tests = [(d.p_fails, FAILS, d) for d in decisions] + [(d.p_no_effect, NO_EFFECT, d) for d in decisions]
    ordered = sorted(tests, key=lambda test: test[0] if math.isfinite(test[0]) else 1.0)
    rejected = []
    for rank, (p_value, verdict, decision) in enumerate(ordered):
        if not p_value <= ALPHA / (len(ordered) - rank):  # NaN is no p-value
            break
        if decision.verdict == verdict:
            rejected.append(decision)
    return rejected


def decide_one(prediction: Prediction, looks: Looks, *, until: int | None = None) -> Decision:
    """Decide one prediction by itself: the verdict of the first look that gives one is final.

    Args:
        prediction: with the differences that there are.
        looks: of the plan.
        until: the look to end with, counted from 1; by default the last that is reached.
    """
    data, margin = prediction.differences, prediction.margin
    verdict, reached = UNDECIDED, [k for k, num in enumerate(looks.seeds[:until]) if num <= len(data)]
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
    deviation = _deviation(data)
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
        float(np.mean(data)) / deviation if math.isfinite(deviation) else math.nan,
        _seeds_needed(data, margin, looks) if verdict == UNDECIDED else None,
    )


def _verdict(interval: Interval, margin: float) -> str:
    if not math.isfinite(interval.half_width):
        return UNDECIDED
    if -margin < interval.low and interval.high < margin:
        return NO_EFFECT
    return HOLDS if interval.low > 0 else FAILS if interval.high < 0 else UNDECIDED


def _deviation(data: NDArray[np.float64]) -> float:
    """Return the standard deviation s; NaN where there is none to speak of: one seed, no number, all the same."""
    if len(data) < 2 or not np.isfinite(data).all():
        return math.nan
    deviation = float(np.std(data, ddof=1))
    return deviation if deviation > ROUNDING * float(np.abs(data).max()) else math.nan


def _interval(data: NDArray[np.float64], looks: Looks, look: int) -> Interval:
    alpha, num = looks.alphas[look], len(data)
    mean = float(np.mean(data)) if num and np.isfinite(data).all() else math.nan
    half_width = math.nan
    if math.isfinite(deviation := _deviation(data)):
        half_width = float(stdtrit(num - 1, 1.0 - alpha)) * deviation / math.sqrt(num)
    return Interval(num, mean, half_width, 1.0 - 2.0 * alpha)


def _p_values(data: NDArray[np.float64], margin: float) -> tuple[float, float, float]:
    """Return the one-sided p-values of "holds", "fails" and "no relevant effect"; 1 where there is no test."""
    deviation = _deviation(data)
    if not math.isfinite(deviation):
        return 1.0, 1.0, 1.0
    mean, error, degrees = float(np.mean(data)), deviation / math.sqrt(len(data)), len(data) - 1

    def above(bound: float) -> float:
        """Return the p-value against a mean of `bound` or less."""
        return float(stdtr(degrees, -(mean - bound) / error))

    def below(bound: float) -> float:
        """Return the p-value against a mean of `bound` or more."""
        return float(stdtr(degrees, (mean - bound) / error))

    return above(0.0), below(0.0), max(above(-margin), below(margin))


def _seeds_needed(data: NDArray[np.float64], margin: float, looks: Looks) -> int | None:
    return seeds_to_decide(data, margin, looks.alphas[-1], at_least=max(len(data) + 1, looks.seeds[0]))


def seeds_to_decide(data: NDArray[np.float64], margin: float, alpha: float, *, at_least: int = 2) -> int | None:
    """Return the seeds at which one look would decide a prediction, with the mean and the variance of its differences.

    Args:
        data: [num_seeds] differences.
        margin: of the prediction.
        alpha: one-sided error of the look.
        at_least: no fewer seeds than these.

    Returns:
        The seeds; None where they cannot be estimated, `MAX_SEEDS + 1` for more than that.
    """
    deviation = _deviation(data)
    if not math.isfinite(deviation):
        return None
    mean = float(np.mean(data))
    nums = np.arange(at_least, MAX_SEEDS + 1)
    half_widths = _half_widths(alpha)[nums] * deviation
    is_decided = (half_widths < abs(mean)) | (half_widths < margin - abs(mean))
    return int(nums[is_decided.argmax()]) if is_decided.any() else MAX_SEEDS + 1


@cache
def _half_widths(alpha: float) -> NDArray[np.float64]:
    """Return the half-width for each number of seeds up to `MAX_SEEDS`, in standard deviations; NaN below two."""
    nums = np.arange(2, MAX_SEEDS + 1)
    return np.concatenate([[math.nan, math.nan], stdtrit(nums - 1, 1.0 - alpha) / np.sqrt(nums)])


def log_odds(accuracy: ArrayLike) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), which has no ceiling; 0 and 1 are drawn in by half of one in ten thousand."""
    p = np.clip(np.asarray(accuracy, dtype=np.float64), 0.5e-4, 1 - 0.5e-4)
    return np.asarray(np.log(p / (1.0 - p)))
