"""The search for a rate, on curves whose minimum is known."""

import math

import pytest

from mamlcli.studies.claims.rate_search import (
    AT_LOWER,
    AT_UPPER,
    HIGHEST,
    INSIDE,
    LOWEST,
    chosen_rate,
    next_rates,
    refined_rates,
    where_best_is,
)


def search(curve, start):
    """Return the scores of a whole search, and the rates of each round."""
    scores, rounds = {}, []
    while rates := next_rates(scores, start):
        rounds.append(rates)
        scores |= {rate: curve(rate) for rate in rates}
        assert len(rounds) < 40
    return scores, rounds


def test_a_peak_inside_is_refined_once_around_it():
    scores, rounds = search(lambda rate: abs(math.log(rate / 0.5)), 0.4)
    # 0.2, 0.4, 0.8: the best is 0.4; then 0.4 / sqrt 2 and 0.4 * sqrt 2.
    assert rounds == [(0.2, 0.4, 0.8), (0.2828, 0.5657)]
    assert chosen_rate(scores, 0.4) == 0.5657  # |log(0.5657 / 0.5)| = 0.123 < |log(0.4 / 0.5)| = 0.223
    assert refined_rates(scores, 0.4) == (0.2828, 0.5657)
    assert where_best_is(scores, 0.4) == INSIDE


@pytest.mark.parametrize("peak", [0.003, 0.05, 1.0, 5.0, 20.0])
def test_a_peak_far_from_the_start_is_found_to_a_factor_of_the_fourth_root_of_two(peak):
    scores, rounds = search(lambda rate: math.log(rate / peak) ** 2, 0.4)
    assert abs(math.log(chosen_rate(scores, 0.4) / peak)) <= math.log(2) / 4 + 1e-3
    assert where_best_is(scores, 0.4) == INSIDE
    # One rate a round while the grid grows, on one side only.
    assert all(len(rates) == 1 for rates in rounds[1:-1])
    assert min(scores) > peak / 4 or peak > 0.2
    assert max(scores) < peak * 4 or peak < 0.8


def test_a_curve_that_falls_or_rises_for_ever_ends_at_the_bound():
    falling, _ = search(lambda rate: -rate, 0.4)
    rising, _ = search(lambda rate: rate, 0.4)
    assert max(falling) <= HIGHEST
    assert min(rising) >= LOWEST
    assert chosen_rate(falling, 0.4) > HIGHEST / 2
    assert chosen_rate(rising, 0.4) < LOWEST * 2
    assert where_best_is(falling, 0.4) == AT_UPPER
    assert where_best_is(rising, 0.4) == AT_LOWER


def test_a_flat_curve_stays_where_it_begins():
    scores, rounds = search(lambda rate: 1.0, 0.4)
    assert rounds == [(0.2, 0.4, 0.8), (0.2828, 0.5657)]
    assert where_best_is(scores, 0.4) == INSIDE
    assert chosen_rate(scores, 0.4) == 0.4


def test_rates_at_which_a_training_diverged_are_worse_than_any_other():
    def curve(rate):
        return math.inf if rate > 0.6 else -rate

    scores, rounds = search(curve, 0.4)
    assert rounds == [(0.2, 0.4, 0.8), (0.2828, 0.5657)]
    assert chosen_rate(scores, 0.4) == 0.5657


def test_where_all_begins_by_diverging_smaller_rates_are_tried():
    scores, _ = search(lambda rate: math.inf if rate > 0.03 else abs(rate - 0.01), 0.4)
    assert chosen_rate(scores, 0.4) == pytest.approx(0.01, rel=0.2)
    assert max(scores) == 0.8


def test_no_rate_is_chosen_where_every_training_diverged():
    scores, _ = search(lambda rate: math.inf, 0.4)
    assert chosen_rate(scores, 0.4) is None
    assert LOWEST <= min(scores) < 2 * LOWEST


def test_a_search_that_was_cut_goes_on_as_if_it_had_not_been():
    def curve(rate):
        return math.log(rate / 3.0) ** 2

    whole, rounds = search(curve, 0.4)
    tried = [rate for rates in rounds for rate in rates]
    for num in range(len(tried)):
        scores = {rate: curve(rate) for rate in tried[:num]}
        while rates := next_rates(scores, 0.4):
            scores |= {rate: curve(rate) for rate in rates}
        assert scores == whole


def test_a_start_at_a_bound_has_a_grid_of_two():
    assert next_rates({}, LOWEST) == (LOWEST, 2 * LOWEST)
    assert next_rates({}, HIGHEST) == (HIGHEST / 2, HIGHEST)
