"""Intervals of claims and of their premises cover as often as they say, in 2,000 draws of normal differences.

A share of 95 % has a standard error of 0.5 %, one of 90 % of 0.7 %. Means over studies are in `test_pooled`, all looks
of a plan together in `test_decisions`.
"""

from __future__ import annotations

import numpy as np
import pytest

from mamlcli.studies.claims.decisions import Prediction, decide_one, one_look
from mamlcli.studies.claims.premise import mean_and_half_width

NUM_DRAWS = 2000


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_intervals_of_one_look_cover_the_effect(num_seeds):
    random, looks = np.random.default_rng(num_seeds), one_look(num_seeds)
    covered = []
    for differences in 0.3 + random.normal(size=(NUM_DRAWS, num_seeds)):
        interval = decide_one(Prediction("key", "words", differences, 0.1), looks).interval
        assert interval.level == pytest.approx(0.95)
        covered.append(interval.low <= 0.3 <= interval.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_intervals_of_a_premise_cover_at_ninety_per_cent():
    random = np.random.default_rng(0)
    hits = random.binomial(75, 0.8, (2, NUM_DRAWS, 20)) / 75
    found = [mean_and_half_width(difference) for difference in hits[0] - hits[1]]
    assert 0.88 <= np.mean([abs(mean) <= half_width for mean, half_width in found]) <= 0.92
