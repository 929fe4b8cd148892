"""Means, intervals and paired differences."""

import math

import numpy as np
import pytest

from mamlcli.common.statistics import estimate, paired_difference, proportion, welch_difference


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


def test_paired_difference_is_exact_where_only_the_pairs_differ():
    tasks = np.array([0.1, 0.9, 0.4, 0.7])
    result = paired_difference(tasks + 0.05, tasks)
    assert result.mean == pytest.approx(0.05)
    assert result.ci95 == pytest.approx(0.0, abs=1e-12)


def test_welch_interval_matches_its_formula():
    # By hand, with t of 2.0 degrees of freedom: a has mean 2, s^2/n = 1/3; b has s^2 = 0, so v = 3 - 1 = 2.
    result = welch_difference([1.0, 2.0, 3.0], [0.5, 0.5, 0.5, 0.5])
    assert result.mean == pytest.approx(1.5)
    assert result.ci95 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert result.num == 3


def test_welch_interval_of_samples_without_spread_is_zero_and_of_overflowed_ones_not_a_number():
    assert welch_difference([1.0, 1.0], [0.0, 0.0]).ci95 == 0.0
    overflowed = welch_difference([math.inf, 1.0], [0.0, 1.0])
    assert overflowed.mean == math.inf
    assert math.isnan(overflowed.ci95)


def test_interval_of_a_proportion_is_wilsons():
    # p = 1/2, n = 4, z^2 = 3.8415: (0.5 + 0.48018) +- 1.95996 sqrt(0.0625 + 0.060023) over 1.96036 = 0.5 +- 0.34996.
    assert proportion(2, 4).ci95_over_images == pytest.approx((0.15004, 0.84996), abs=1e-4)
    assert proportion(3, 3).ci95_over_images[1] == 1.0
    assert proportion(0, 3).ci95_over_images[0] == 0.0
