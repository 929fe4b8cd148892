"""Means over studies, compared with examples calculated by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from mamlcli.studies.claims.pooled import pooled_mean


def test_studies_that_differ_have_a_variance_between_them():
    # v = 1: m_w = 7/3, Q = 16/9 + 1/9 + 25/9 = 14/3; C = 3 - 3/3 = 2; tau^2 = (14/3 - 2) / 2 = 4/3; u = 3/7.
    # q = 3/7 * 14/3 / 2 = 1; half-width = t_2(0.975) sqrt(1 / (9/7)) = 4.302653 * 0.881917 = 3.794583.
    pooled = pooled_mean([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
    assert pooled.mean == pytest.approx(7 / 3)
    assert pooled.q == pytest.approx(14 / 3)
    assert pooled.between == pytest.approx(math.sqrt(4 / 3))
    assert pooled.i_squared == pytest.approx(4 / 7)
    assert pooled.half_width == pytest.approx(3.794583, abs=1e-5)
    assert pooled.p_same == pytest.approx(math.exp(-7 / 3))  # chi-squared with two degrees of freedom


def test_studies_that_agree_are_weighted_by_precision_and_no_narrower_than_their_errors():
    # v = 1, 3: w = 1, 1/3; m_w = (1/3) / (4/3) = 1/4; Q = 1/16 + 9/48 = 1/4 < 1, so tau = 0 and I^2 = 0.
    # q = 1/4, taken as 1; half-width = t_1(0.975) sqrt(3/4) = 12.706205 * 0.866025 = 11.003896.
    pooled = pooled_mean([0.0, 1.0], [1.0, math.sqrt(3.0)])
    assert pooled.mean == pytest.approx(0.25)
    assert (pooled.between, pooled.i_squared) == (0.0, 0.0)
    assert pooled.half_width == pytest.approx(11.003896, abs=1e-5)


def test_uneven_studies_that_differ_lie_between_weights_by_precision_and_equal_ones():
    # v = 1/4, 1: w = 4, 1; m_w = 4/5 * 0 + 1/5 * 5 = 1; Q = 4 * 1 + 1 * 16 = 20; C = 5 - 17/5 = 1.6;
    # tau^2 = 19 / 1.6 = 11.875; u = 1 / 12.125, 1 / 12.875; m = 5 (1 / 12.875) / (1 / 12.125 + 1 / 12.875) = 2.425.
    pooled = pooled_mean([0.0, 5.0], [0.5, 1.0])
    assert pooled.mean == pytest.approx(2.425)
    assert pooled.between == pytest.approx(math.sqrt(11.875))
    assert pooled.i_squared == pytest.approx(19 / 20)


def test_one_study_has_no_interval_over_studies_and_none_has_no_mean():
    pooled = pooled_mean([0.3, math.nan, 0.1], [0.1, 0.1, 0.0])
    assert (pooled.num, pooled.mean) == (1, 0.3)
    assert math.isnan(pooled.half_width)
    assert pooled_mean([], []) is None
    assert pooled_mean([1.0], [math.inf]) is None


def test_studies_that_are_the_same_have_no_heterogeneity():
    pooled = pooled_mean([0.5, 0.5], [0.1, 0.2])
    assert (pooled.q, pooled.i_squared, pooled.mean) == (0.0, 0.0, 0.5)


def test_intervals_cover_the_mean_over_studies():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        errors = random.uniform(0.1, 0.6, size=4)
        means = 1.0 + 0.5 * random.normal(size=4) + errors * random.normal(size=4)
        pooled = pooled_mean(means, errors)
        covered += abs(pooled.mean - 1.0) <= pooled.half_width
    assert covered / 1000 > 0.95 - 3 * stats.binom(1000, 0.95).std() / 1000
