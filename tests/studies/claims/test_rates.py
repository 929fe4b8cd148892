"""Recorded inner learning rates, and the pilots that chose them."""

import math

import pytest

from mamlcli.studies.claims.rates import EXCEPTIONS, PLANNED, RATES, SYNTHETIC_EXCESS, best_of, pilot_scores
from mamlcli.studies.claims.scales import evening

SCORES = pilot_scores()
VALUES = [(family, value) for family, values in SCORES.items() for value in values]


def means(family, value):
    return {rate: sum(losses) / len(losses) for rate, losses in SCORES[family][value].items()}


def test_every_recorded_rate_is_of_a_value_of_a_scale():
    families = {family.key: family for family in evening().families}
    for key, rates in RATES.items():
        assert set(rates) <= {value.key for value in families[key].values}


# The rates of the first plan, written out: a change of one would change the numbers that the command gives.
FIRST_PLAN = {
    "linear-regression": {"depth 1": 1.3, "depth 2": 0.25, "depth 1, dense": 32.0, "depth 1, kfo": 1.0},
    "logistic": {"depth 1": 5.0, "depth 3": 0.98995, "depth 1, meta-sgd": 4.0, "depth 1, kfo": 4.0},
    "glyphs-maml": {
        "depth 1": 0.4,
        "depth 2": 0.141421,
        "depth 4": 0.4,
        "depth 4, width 4": 0.4,
        "depth 1, 2 linear layers": 0.565685,
        "depth 1, 3 linear layers": 0.4,
        "depth 1, meta-sgd": 0.8,
        "depth 1, kfo": 2.262742,
        "depth 2, kfo": 1.131371,
        "depth 4, kfo": 0.8,
    },
    "glyphs-anil": {
        "depth 1": 3.2,
        "depth 4": 3.2,
        "depth 1, 2 linear layers": 0.4,
        "depth 1, kfo": 6.4,
        "depth 4, kfo": 6.4,
    },
}


def test_rates_are_those_of_the_first_plan():
    assert RATES == FIRST_PLAN


@pytest.mark.parametrize(("family", "value"), [key for key in VALUES if key not in PLANNED])
def test_a_rate_is_the_best_of_the_pilots(family, value):
    of_rate = means(family, value)
    assert of_rate[RATES[family][value]] == min(of_rate.values())


@pytest.mark.parametrize(("family", "value"), VALUES)
def test_the_grid_holds_its_best_inside_and_is_refined_around_it_but_at_depth_4(family, value):
    of_rate = means(family, value)
    best = best_of(SCORES[family][value])
    below, above = ([rate for rate in of_rate if sign * (rate - best) > 0] for sign in (-1, 1))
    factor = 2.0 if value.startswith("depth 4") else math.sqrt(2.0)
    # Rates have four digits.
    assert (best / max(below), min(above) / best) == pytest.approx((factor, factor), rel=1e-3)
    if factor == 2.0:
        assert 0.0075 < min(of_rate[max(below)], of_rate[min(above)]) - of_rate[best] < 0.013
        assert max(of_rate[max(below)], of_rate[min(above)]) - of_rate[best] < 0.125


def test_rates_that_are_kept_from_the_first_plan_are_as_good_as_the_best():
    kfo = means("logistic", "depth 1, kfo")
    assert (best_of(SCORES["logistic"]["depth 1, kfo"]), kfo[4.0] - kfo[5.657]) == (5.657, pytest.approx(1.5e-5))
    assert best_of(SCORES["logistic"]["depth 3"]) == pytest.approx(PLANNED["logistic", "depth 3"], rel=1e-4)
    assert len(EXCEPTIONS) == 2


def test_a_rate_at_which_a_pilot_diverged_is_never_the_best():
    assert best_of({0.5: [1.0, 1.2], 1.0: [0.1, math.inf], 0.25: [1.2, 1.0]}) == 0.25


def test_the_excess_is_recorded_of_tasks_with_a_floor():
    assert set(SYNTHETIC_EXCESS) == {"linear-regression", "logistic"}
    # In four digits of the pilots' 0.07070 and 0.05974.
    assert pytest.approx({"linear-regression": 0.07070, "logistic": 0.05974}, abs=1e-4) == SYNTHETIC_EXCESS
