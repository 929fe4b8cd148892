"""Means over studies, compared with examples calculated by hand."""

import math

import numpy as np
import pytest

from mamlcli.studies.claims.pooled import pooled_mean


def test_studies_that_differ_have_a_variance_between_them():
    # v = 1: m_w = 7/3, Q = 16/9 + 1/9 + 25/9 = 14/3; C = 3 - 3/3 = 2; tau^2 = (14/3 - 2) / 2 = 4/3.
    # s^2 = 14/3 / 2 = 7/3; half-width = t_2(0.975) sqrt(7/9) = 4.302653 * 0.881917 = 3.794583.
    pooled = pooled_mean([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
    assert pooled.mean == pytest.approx(7 / 3)
    assert pooled.q == pytest.approx(14 / 3)
    assert pooled.between == pytest.approx(math.sqrt(4 / 3))
    assert pooled.i_squared == pytest.approx(4 / 7)
    assert pooled.half_width == pytest.approx(3.794583, abs=1e-5)
    assert pooled.p_same == pytest.approx(math.exp(-7 / 3))  # chi-squared with two degrees of freedom


def test_every_study_counts_alike_however_precise_it_is():
    # v = 1, 3: w = 1, 1/3; m_w = (1/3) / (4/3) = 1/4; Q = 1/16 + 9/48 = 1/4 < 1, so tau = 0 and I^2 = 0.
    # s^2 = 1/2; half-width = t_1(0.975) sqrt(1/4) = 12.706205 / 2 = 6.353102.
    pooled = pooled_mean([0.0, 1.0], [1.0, math.sqrt(3.0)])
    assert pooled.mean == pytest.approx(0.5)
    assert (pooled.q, pooled.between, pooled.i_squared) == (pytest.approx(0.25), 0.0, 0.0)
    assert pooled.half_width == pytest.approx(6.353102, abs=1e-5)


def test_variance_between_uneven_studies_matches_its_formula():
    # v = 1/4, 1: w = 4, 1; m_w = 4/5 * 0 + 1/5 * 5 = 1; Q = 4 * 1 + 1 * 16 = 20; C = 5 - 17/5 = 1.6.
    pooled = pooled_mean([0.0, 5.0], [0.5, 1.0])
    assert pooled.mean == pytest.approx(2.5)
    assert pooled.between == pytest.approx(math.sqrt(11.875))  # 19 / 1.6
    assert pooled.i_squared == pytest.approx(19 / 20)


def test_one_study_has_no_interval_over_studies_and_none_has_no_mean():
    pooled = pooled_mean([0.3, math.nan, 0.1], [0.1, 0.1, 0.0])
    assert (pooled.num, pooled.mean) == (1, 0.3)
    assert math.isnan(pooled.half_width)
    assert pooled_mean([], []) is None
    assert pooled_mean([1.0], [math.inf]) is None


def test_studies_that_are_the_same_have_no_heterogeneity_and_no_interval():
    pooled = pooled_mean([0.5, 0.5], [0.1, 0.2])
    assert (pooled.q, pooled.i_squared, pooled.mean) == (0.0, 0.0, 0.5)
    assert math.isnan(pooled.half_width)


@pytest.mark.parametrize(("num_studies", "between"), [(2, 0.0), (5, 0.5)])
def test_intervals_cover_the_mean_over_studies(num_studies, between):
    # Errors from 4 seeds each, of very different sizes. 2,000 draws: a standard error of 0.5 %.
    random = np.random.default_rng(num_studies)
    spreads = random.uniform(0.2, 1.2, size=(2000, num_studies, 1))
    effects = 1.0 + between * random.normal(size=(2000, num_studies, 1))
    seeds = effects + spreads * random.normal(size=(2000, num_studies, 4))
    found = [pooled_mean(of_one.mean(axis=1), of_one.std(axis=1, ddof=1) / 2) for of_one in seeds]
    covered = np.mean([abs(pooled.mean - 1.0) <= pooled.half_width for pooled in found])
    assert 0.93 <= covered <= 0.97
