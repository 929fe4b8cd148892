"""Scores are summed up here as means, intervals and paired differences; every interval says what it varies over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Values that differ by no more than this share of their size differ by rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """Holds a mean and the half-width of its 95 % interval.

    Attributes:
        mean: of the values.
        ci95: half-width of the two-sided 95 % interval of the mean, from Student's t with `num - 1` degrees of
            freedom; NaN where there is none: for fewer than two values, and where all are the same.
        num: values the mean is over.
    """

    mean: float
    ci95: float
    num: int


@dataclass(frozen=True)
class Score:
    """Holds an estimate as results have it: a number that does not exist or is not finite is None.

    Attributes:
        mean: over tasks or over seeds.
        ci95: half-width of its 95 % interval; None where there is none, as where all tasks or seeds score the same.
    """

    mean: float | None
    ci95: float | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> Score:
        """Return the score of an estimate, with None for what is not finite."""
        mean, ci95 = (value if math.isfinite(value) else None for value in (estimate.mean, estimate.ci95))
        return cls(mean, ci95)

    def to_json(self, over: str = "tasks") -> dict[str, float | None]:
        """Return `{"mean", "ci95_over_<over>"}`."""
        return {"mean": self.mean, f"ci95_over_{over}": self.ci95}


def estimate(values: ArrayLike) -> Estimate:
    """Return the mean of independent values with its 95 % interval: mean +- t_{0.975, n-1} * s / sqrt(n).

    Values that are all the same have no interval: their s is zero, and an interval without width would never hold the
    mean of what they are drawn from. `interval_note` says so.

    Args:
        values: [n] float, one per task or one per seed; which, the caller says in the name it gives the interval.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return Estimate(float(data.mean()) if data.size else math.nan, math.nan, int(data.size))
    # A score that overflowed makes these infinite or NaN, which the numbers say without a warning.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(data.mean())
        return Estimate(mean, math.nan if is_without_spread(data) else float(half_width_95(data)), int(data.size))


def is_without_spread(values: NDArray[np.float64], scale: float | None = None) -> bool:
    """Return whether finite values are all the same but for rounding, so that their mean has no interval.

    Args:
        values: at least one.
        scale: size of the numbers that they were computed from, by default the largest of them.
    """
    if not np.isfinite(values).all():
        return False
    size = float(np.abs(values).max()) if scale is None else scale
    return float(np.ptp(values)) <= ROUNDING * size


def half_width_95(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the half-width of the 95 % interval of the mean over axis 0, [...]; there are at least two values."""
    from scipy.special import stdtrit  # slow to import, and many commands need no interval

    num = values.shape[0]
    standard_error = values.std(axis=0, ddof=1) / math.sqrt(num)
    return np.asarray(stdtrit(num - 1, 0.975) * standard_error)


def paired_difference(a: ArrayLike, b: ArrayLike) -> Estimate:
    """Return the estimate of the mean of a - b, pair by pair.

    Args:
        a, b: [n] float, scores of two methods on the same tasks (or seeds), in the same order.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    assert first.shape == second.shape, "paired values must be of the same tasks"
    with np.errstate(over="ignore", invalid="ignore"):
        result, size = estimate(first - second), float(np.abs([first, second]).max(initial=0.0))
        # Differences that are rounding alone, as of 0.3 - 0.2 and 0.2 - 0.1, are the same one.
        return replace(result, ci95=math.nan) if first.size and is_without_spread(first - second, size) else result


def welch_difference(a: ArrayLike, b: ArrayLike) -> Estimate:
    """Return the difference of the means of two independent samples, mean(a) - mean(b), with its 95 % interval.

    +- t_{0.975, v} * sqrt(e_a + e_b),   v = (e_a + e_b)^2 / (e_a^2 / (n_a - 1) + e_b^2 / (n_b - 1)),   e = s^2 / n

    Args:
        a, b: [n_a], [n_b] float, at least two values each; the sizes may differ.

    Returns:
        The difference; its `num` is the smaller of the two sizes, its `ci95` NaN where a value is not finite, and
        where neither sample has two values that differ.

    Source: Welch 1947, Biometrika 34; the degrees of freedom as in Satterthwaite 1946. No known deviation.
    """
    from scipy.special import stdtrit  # as above

    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    num = min(first.size, second.size)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(first.mean() - second.mean())
        if not math.isfinite(first.var() + second.var()):
            return Estimate(mean, math.nan, num)
        errors = [float(sample.var(ddof=1)) / sample.size for sample in (first, second)]
    # Numbers so small that their squares are zero have no variance to speak of, either.
    if sum(errors) == 0 or (is_without_spread(first) and is_without_spread(second)):
        return Estimate(mean, math.nan, num)
    share = errors[0] / sum(errors)  # a power of the errors themselves could overflow
    degrees = 1 / (share**2 / (first.size - 1) + (1 - share) ** 2 / (second.size - 1))
    return Estimate(mean, float(stdtrit(degrees, 0.975)) * math.sqrt(sum(errors)), num)


@dataclass(frozen=True)
class Proportion:
    """Holds a proportion of images with its 95 % interval over images.

    Attributes:
        num_right, num_images: what it is of.
        mean: the proportion.
        ci95_over_images: the ends of the interval, in [0, 1].
    """

    num_right: int
    num_images: int
    mean: float
    ci95_over_images: tuple[float, float]

    def to_json(self) -> dict[str, object]:
        """Return the proportion as reports have it."""
        return {**vars(self), "ci95_over_images": list(self.ci95_over_images)}


def proportion(num_right: int, num_all: int) -> Proportion:
    """Return a proportion with its 95 % interval over images (Wilson's score interval).

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    It has a width for 0 and for all right, too. Counts come in steps, so that it covers 95 % on the average over
    proportions; for a single one it is between 91 and 98 % with 10 to 50 images, between 93 and 97 % with 200.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference; computed by scipy.
    """
    from scipy.stats import binomtest  # as above

    interval = binomtest(num_right, num_all).proportion_ci(0.95, method="wilson")
    return Proportion(num_right, num_all, num_right / num_all, (float(interval.low), float(interval.high)))


def summary(values: ArrayLike) -> Score:
    """Return the score of values: their mean with its interval, None for what is not finite or does not exist."""
    return Score.of(estimate(values))


def interval_note(values: ArrayLike, what: str, *, is_fraction: bool = False) -> str | None:
    """Return a sentence where the 95 % interval of `estimate` covers less often than that, else None.

    That is so where the mean of so many values is still skewed: where |skewness of the values| / sqrt(n) exceeds
    0.25 + 2 / n (normal values of small samples stay below). Of values that are all the same it says that there is
    none. In simulations with 10 to 2,000 tasks of 25 queries or log-normal losses, intervals without
    a note cover 92 % and more, but for ten values of a long tail, which no sample so small can show.

    Args:
        values: [n] float, one per task; the interval of values that are not finite is not judged.
        what: what the values are, the sentence's first words.
        is_fraction: whether they are accuracies, in [0, 1].

    Source: Cochran 1977, Sampling Techniques, section 2.15: n > 25 * skewness^2, which is a limit of 0.2.
    Differs from the source: the limit, by simulation.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2 or not np.isfinite(data).all():
        return None
    if is_without_spread(data):
        return f"{what}: the same on all {data.size} tasks, so it has no interval."
    size = float(np.abs(data - data.mean()).max())
    deviations = (data - data.mean()) / size  # scaled, so that no power overflows
    skewness = float((deviations**3).mean() / (deviations**2).mean() ** 1.5)
    if abs(skewness) / math.sqrt(data.size) <= 0.25 + 2 / data.size:
        return None
    why = "a few tasks decide it"
    if is_fraction:
        why = f"it is close to {'1' if data.mean() > 0.5 else '0'}, and {why}"
    return f"{what}: its interval covers less than 95 %, as {why}. More tasks mend that."


# Equivalence ----------------------------------------------------------------------------------------------------

# The chance of each wrong verdict of `equivalence`. Its interval is the two-sided one of 1 - 2 * LEVEL, 90 %.
LEVEL = 0.05

Verdict = Literal["equivalent", "better", "worse", "undecided"]


@dataclass(frozen=True)
class Equivalence:
    """Holds how a measured mean stands to a reference value, decided by one-sided t tests at `LEVEL`.

    Attributes:
        verdict: "equivalent": the interval lies within the margin; else "better" or "worse": it lies wholly on that
            side of the reference; else "undecided".
        mean: of all values.
        gain: mean minus reference; reference minus mean where lower is better.
        interval: ends of the 90 % interval of the gain; None where all values are the same, which decide nothing.
        p_equivalent: p-value against a gain of the margin or more on either side, the larger of two.
        p_better: p-value against a gain of zero or less.
    """

    verdict: Verdict
    mean: float
    gain: float
    interval: tuple[float, float] | None
    p_equivalent: float
    p_better: float


def equivalence(values: ArrayLike, reference: float, *, margin: float, is_higher_better: bool) -> Equivalence:
    """Test whether a method reaches a reference value to within a margin, from its scores over seeds and tasks.

    Two one-sided tests (TOST): "equivalent" where both `gain <= -margin` and `gain >= margin` are rejected at 5 %,
    which is where the 90 % interval of the gain lies within the margin. If the method is worse by the margin or more,
    the chance of "equivalent" or "better" is at most 5 %; if it is better by as much, that of "equivalent" or "worse".
    With one seed that holds for its weights alone, not for other trainings of the method.

    The half-width h of the interval, at a chance a on either side: with one seed it is over tasks, and says nothing of
    other trainings; with S seeds, all scored on the same T tasks, seeds and tasks are both samples:

        h(a)^2 = t_{1-a, S-1}^2 s_S^2 / S + t_{1-a, T-1}^2 s_T^2 / T

    with s_S of the seeds' means over tasks and s_T of the tasks' means over seeds. For normal means it covers at least
    as often as it says, whatever the two variances are (Banerjee). A p-value is the a at which h(a) is the distance.

    Args:
        values: [num_seeds, num_tasks] finite float, at least two tasks; every seed has the same tasks.
        reference: the value to reach, taken as exact.
        margin: the largest difference that counts as equal, > 0.
        is_higher_better: whether a larger value is better.

    Source: Schuirmann 1987, A comparison of the two one-sided tests procedure and the power approach, J.
    Pharmacokinetics and Biopharmaceutics 15; Banerjee 1960, Approximate confidence interval for linear functions of
    means of k populations when the population variances are not equal, Sankhya 22. Differs from the source: what a
    seed does on a task beyond both counts in both terms, so that the interval is a little too wide.
    """
    data = np.asarray(values, dtype=np.float64)
    assert data.ndim == 2
    assert data.shape[1] > 1
    assert np.isfinite(data).all()
    mean = float(data.mean())
    gain = mean - reference if is_higher_better else reference - mean
    samples = [sample for sample in (data.mean(axis=1), data.mean(axis=0)) if sample.size > 1]
    terms = [(sample.size - 1, float(sample.var(ddof=1)) / sample.size) for sample in samples]
    if is_without_spread(data):
        return Equivalence("undecided", mean, gain, None, 1.0, 1.0)
    half = _half_width(terms, LEVEL)
    low, high = gain - half, gain + half
    verdict: Verdict = "better" if low > 0 else "worse" if high < 0 else "undecided"
    if -margin < low and high < margin:
        verdict = "equivalent"
    return Equivalence(verdict, mean, gain, (low, high), _p_value(terms, margin - abs(gain)), _p_value(terms, gain))


def _half_width(terms: Sequence[tuple[int, float]], chance: float) -> float:
    """Return h(chance) of `equivalence` from its terms: degrees of freedom and variance of the mean."""
    from scipy.special import stdtrit  # as above

    return math.sqrt(sum(float(stdtrit(degrees, chance)) ** 2 * variance for degrees, variance in terms))


def _p_value(terms: Sequence[tuple[int, float]], distance: float) -> float:
    """Return the chance `a` with h(a) = distance, by bisection; above one half where the distance is negative."""
    low, high = 0.0, 0.5
    for _ in range(60):  # to 4e-19
        middle = (low + high) / 2
        low, high = (middle, high) if _half_width(terms, middle) > abs(distance) else (low, middle)
    return high if distance > 0 else 1 - high
