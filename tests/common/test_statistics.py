"""Means, intervals and paired differences."""

import math

import numpy as np
import pytest

from mamlcli.common.statistics import (
    LEVEL,
    Score,
    equivalence,
    estimate,
    interval_note,
    paired_difference,
    proportion,
    summary,
    welch_difference,
)


def test_interval_of_three_values_matches_the_t_table():
    # mean 2, s = 1, n = 3; t_{0.975, 2} = 4.302653 (any table): half-width 4.302653 / sqrt(3).
    result = estimate([1.0, 2.0, 3.0])
    assert result.mean == pytest.approx(2.0)
    assert result.ci95 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert result.num == 3


def test_interval_of_one_value_is_not_a_number():
    result = estimate([0.5])
    assert result.mean == 0.5
    assert math.isnan(result.ci95)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    # 4000 samples of 5 normal values: coverage 0.95 with a standard error of 0.0034; four of them allowed.
    data = np.random.default_rng(0).normal(size=(4000, 5))
    covered = sum(abs(estimate(row).mean) <= estimate(row).ci95 for row in data) / 4000
    assert abs(covered - 0.95) < 4 * 0.0034


def test_what_varies_between_pairs_is_not_in_the_interval_of_their_difference():
    tasks, more = np.array([0.1, 0.9, 0.4, 0.7]), np.array([0.05, 0.06, 0.05, 0.06])
    result = paired_difference(tasks + more, tasks)
    assert result.mean == pytest.approx(0.055)
    assert result.ci95 == pytest.approx(estimate(more).ci95)


def test_values_that_are_all_the_same_have_no_interval():
    for values in ([0.0] * 5, [1.0] * 600, [0.3] * 7, [2.5]):
        assert math.isnan(estimate(values).ci95)
        assert summary(values) == Score(pytest.approx(values[0]), None)
    tasks = np.array([0.1, 0.9, 0.4, 0.7])
    assert paired_difference(tasks + 0.05, tasks).mean == pytest.approx(0.05)
    assert math.isnan(paired_difference(tasks + 0.05, tasks).ci95)  # the same but for rounding
    assert math.isnan(paired_difference(tasks, tasks).ci95)


def test_values_that_are_no_numbers_have_neither_mean_nor_interval():
    for values in ([math.nan, 0.5, 0.6], [math.inf, -math.inf], []):
        assert summary(values) == Score(None, None)
    assert paired_difference([math.nan, 1.0], [0.0, 1.0]).num == 2


def test_welch_interval_matches_its_formula():
    # By hand, with t of 2.0 degrees of freedom: a has mean 2, s^2/n = 1/3; b has s^2 = 0, so v = 3 - 1 = 2.
    result = welch_difference([1.0, 2.0, 3.0], [0.5, 0.5, 0.5, 0.5])
    assert result.mean == pytest.approx(1.5)
    assert result.ci95 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert result.num == 3


def test_welch_interval_is_that_of_scipy():
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(0)
    for num, size in ((2, 1.0), (30, 1e-100), (600, 1e150)):
        a, b = size * rng.normal(size=7), 3 * size * rng.normal(size=num)
        interval = ttest_ind(a / size, b / size, equal_var=False).confidence_interval(0.95)
        assert welch_difference(a, b).ci95 == pytest.approx(size * (interval.high - interval.low) / 2, rel=1e-9)


def test_welch_interval_of_samples_without_spread_and_of_overflowed_ones_is_not_a_number():
    same = welch_difference([1.0, 1.0], [0.0, 0.0])
    assert same.mean == 1.0
    assert math.isnan(same.ci95)
    overflowed = welch_difference([math.inf, 1.0], [0.0, 1.0])
    assert overflowed.mean == math.inf
    assert math.isnan(overflowed.ci95)


def test_interval_of_a_proportion_is_wilsons():
    # p = 1/2, n = 4, z^2 = 3.8415: (0.5 + 0.48018) +- 1.95996 sqrt(0.0625 + 0.060023) over 1.96036 = 0.5 +- 0.34996.
    assert proportion(2, 4).ci95_over_images == pytest.approx((0.15004, 0.84996), abs=1e-4)
    assert proportion(3, 3).ci95_over_images[1] == 1.0
    assert proportion(0, 3).ci95_over_images[0] == 0.0


# Equivalence ----------------------------------------------------------------------------------------------------------

TASKS = np.random.default_rng(1).normal(0.9, 0.05, size=40)


@pytest.mark.parametrize(("reference", "margin"), [(0.90, 0.02), (0.87, 0.02), (0.95, 0.01), (0.905, 0.005)])
def test_equivalence_over_tasks_is_two_t_tests_of_scipy(reference, margin):
    from scipy.stats import ttest_1samp

    result = equivalence(TASKS[None], reference, margin=margin, is_higher_better=True)
    above = ttest_1samp(TASKS, reference - margin, alternative="greater")
    below = ttest_1samp(TASKS, reference + margin, alternative="less")
    assert result.p_equivalent == pytest.approx(max(above.pvalue, below.pvalue), rel=1e-9)
    assert result.p_better == pytest.approx(ttest_1samp(TASKS, reference, alternative="greater").pvalue, rel=1e-9)
    interval = ttest_1samp(TASKS, reference).confidence_interval(0.90)
    assert result.interval == pytest.approx((interval.low - reference, interval.high - reference), rel=1e-9)
    assert (result.verdict == "equivalent") == (above.pvalue < LEVEL and below.pvalue < LEVEL)


def test_equivalence_over_seeds_whose_tasks_are_all_alike_is_a_t_test_over_seeds():
    from scipy.stats import ttest_1samp

    seeds = np.array([0.2, 0.3, 0.5])
    result = equivalence(np.repeat(seeds[:, None], 7, axis=1), 0.4, margin=0.1, is_higher_better=False)
    interval = ttest_1samp(seeds, 0.4).confidence_interval(0.90)
    assert result.gain == pytest.approx(0.4 - seeds.mean())
    assert result.interval[0] == pytest.approx(0.4 - interval.high)
    assert result.interval[1] == pytest.approx(0.4 - interval.low)


def test_interval_has_a_part_of_seeds_and_one_of_tasks():
    # Means of seeds 1, 3: s^2 / S = 2 / 2 = 1, t_{0.95, 1} = 6.313752. Means of tasks 0, 2, 4: s^2 / T = 4 / 3,
    # t_{0.95, 2} = 2.919986.
    result = equivalence([[-1.0, 1.0, 3.0], [1.0, 3.0, 5.0]], 0.0, margin=1.0, is_higher_better=True)
    assert (result.mean, result.gain) == (2.0, 2.0)
    half_width = math.sqrt(6.313752**2 + 2.919986**2 * 4 / 3)
    assert result.interval == pytest.approx((2 - half_width, 2 + half_width), rel=1e-6)


@pytest.mark.parametrize("shape", [(1, 20), (3, 20)])
def test_verdict_changes_where_the_p_value_is_the_level(shape):
    values = np.random.default_rng(0).normal(size=shape)
    widest = equivalence(values, 0.0, margin=9.0, is_higher_better=True)
    edge = max(map(abs, widest.interval))
    for factor, verdict in ((1 - 1e-6, "undecided"), (1 + 1e-6, "equivalent")):
        result = equivalence(values, 0.0, margin=factor * edge, is_higher_better=True)
        assert result.verdict == verdict
        assert (result.p_equivalent < LEVEL) == (verdict == "equivalent")
        assert result.p_equivalent == pytest.approx(LEVEL, rel=1e-4)


@pytest.mark.parametrize(
    ("mean", "margin", "verdict"),
    [
        (0.0, 0.5, "equivalent"),
        (0.3, 0.5, "equivalent"),  # better, too, but by less than counts
        (0.3, 0.1, "better"),
        (0.7, 0.5, "better"),
        (-0.7, 0.5, "worse"),
        (-0.3, 0.1, "worse"),
        (0.05, 0.1, "undecided"),
    ],
)
@pytest.mark.parametrize("is_higher_better", [True, False])
def test_verdict_is_where_the_interval_lies(mean, margin, verdict, is_higher_better):
    # 101 values from -1 to 1: the interval is +- 0.097.
    values = np.linspace(-1, 1, 101)[None] + (mean if is_higher_better else -mean)
    result = equivalence(7 + values, 7.0, margin=margin, is_higher_better=is_higher_better)
    assert result.verdict == verdict
    assert result.gain == pytest.approx(mean)


def test_scores_that_are_all_the_same_number_decide_nothing():
    for value in (1.0, 1.2, 0.8):
        result = equivalence(np.full((2, 5), value), 1.0, margin=0.1, is_higher_better=True)
        assert (result.verdict, result.interval) == ("undecided", None)
        assert (result.gain, result.p_equivalent, result.p_better) == (pytest.approx(value - 1.0), 1.0, 1.0)


@pytest.mark.parametrize(("num_seeds", "spread"), [(1, 0.0), (2, 1.0), (3, 0.2), (3, 3.0)])
@pytest.mark.parametrize("side", [-1, 1])
def test_chance_of_a_wrong_verdict_is_at_most_the_level(num_seeds, spread, side):
    # Seeds and tasks are both drawn; the true gain is just the margin. 800 draws: 5 % with a standard error of 0.8 %;
    # three of them allowed. With one seed the test is exact, so that fewer would be wrong, too.
    rng, num_draws, num_tasks, margin = np.random.default_rng(num_seeds), 800, 30, 2.0
    wrong = {-1: ("equivalent", "better"), 1: ("equivalent", "worse")}[side]
    num_wrong = 0
    for _ in range(num_draws):
        values = side * margin + rng.normal(size=(num_seeds, num_tasks)) + rng.normal(size=num_tasks)
        values = values + spread * rng.normal(size=(num_seeds, 1))
        num_wrong += equivalence(values, 0.0, margin=margin, is_higher_better=True).verdict in wrong
    assert num_wrong / num_draws < LEVEL + 3 * 0.008
    if num_seeds == 1:
        assert num_wrong / num_draws > LEVEL - 3 * 0.008


def accuracies(probability, size, generator):
    return generator.binomial(25, probability, size) / 25


def log_normal(sigma, size, generator):
    return generator.lognormal(0.0, sigma, size) / np.exp(sigma**2 / 2)


def coverage_and_notes(draw, parameter, num_tasks, *, mean, is_fraction):
    """Return how often the intervals of 300 samples cover the mean, and how often there is a note."""
    samples = draw(parameter, (300, num_tasks), np.random.default_rng(0))
    estimates = [estimate(sample) for sample in samples]
    covered = np.mean([abs(found.mean - mean) <= found.ci95 for found in estimates])
    notes = [interval_note(sample, "x", is_fraction=is_fraction) is not None for sample in samples]
    return covered, np.mean(notes)


@pytest.mark.parametrize(
    ("draw", "parameter", "num_tasks"),
    [(accuracies, 0.995, 10), (accuracies, 0.999, 50), (accuracies, 0.999, 200), (log_normal, 1.5, 200)],
)
def test_intervals_that_cover_too_little_have_a_note(draw, parameter, num_tasks):
    is_fraction = draw is accuracies
    mean = parameter if is_fraction else 1.0
    covered, noted = coverage_and_notes(draw, parameter, num_tasks, mean=mean, is_fraction=is_fraction)
    assert covered < 0.9
    assert noted > 0.8


@pytest.mark.parametrize(
    ("draw", "parameter", "num_tasks"),
    [(accuracies, 0.6, 10), (accuracies, 0.9, 50), (accuracies, 0.98, 600), (log_normal, 0.3, 50)],
)
def test_ordinary_intervals_have_no_note(draw, parameter, num_tasks):
    is_fraction = draw is accuracies
    mean = parameter if is_fraction else 1.0
    covered, noted = coverage_and_notes(draw, parameter, num_tasks, mean=mean, is_fraction=is_fraction)
    # 300 samples: a standard error of 0.013.
    assert covered > 0.95 - 3 * 0.013
    assert noted < 0.05


def test_notes_say_why():
    assert interval_note([1.0] * 5, "Query accuracy", is_fraction=True) == (
        "Query accuracy: the same on all 5 tasks, so it has no interval."
    )
    assert "close to 1, and a few tasks decide it" in interval_note([1.0] * 99 + [0.9], "x", is_fraction=True)
    assert interval_note([0.0] * 99 + [1e200], "Query loss") == (
        "Query loss: its interval covers less than 95 %, as a few tasks decide it. More tasks mend that."
    )
    assert interval_note([2.0] * 5, "x") == "x: the same on all 5 tasks, so it has no interval."
    assert interval_note([1.0, math.nan], "x") is interval_note([], "x") is None
