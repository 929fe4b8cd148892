"""How claims are decided."""

import math

import numpy as np
import pytest

from mamlcli.studies.claims.decisions import FAILS, HOLDS, UNDECIDED, Prediction, combine, decide, log_odds, slopes


def one(differences, sign=-1):
    return Prediction("a minus b", np.array(differences, dtype=float), sign)


def test_interval_on_the_predicted_side_holds_and_on_the_other_fails():
    # mean -1, s = 0.1, n = 3: half-width 4.302653 * 0.1 / sqrt(3) = 0.2484.
    data = [-1.1, -1.0, -0.9]
    verdict, (decision,) = decide([one(data)])
    assert verdict == HOLDS
    assert decision.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert decision.level == pytest.approx(0.95)
    assert decide([one(data, sign=1)])[0] == FAILS


def test_interval_over_zero_is_undecided_and_says_how_many_seeds_would_decide():
    # mean -1, s = 1: t_{0.975, n-1} / sqrt(n) < 1 first at n = 7 (2.4469 / 2.6458 = 0.925; n = 6: 2.5706 / 2.4495).
    verdict, (decision,) = decide([one([-2.0, -1.0, 0.0])])
    assert verdict == UNDECIDED
    assert decision.seeds_needed == 7


@pytest.mark.parametrize("data", [[-1.0], [-1.0, -1.001]])
def test_fewer_than_three_seeds_are_always_undecided(data):
    assert decide([one(data)])[0] == UNDECIDED


def test_holm_asks_more_of_the_smallest_p_value_and_stops_at_the_first_undecided():
    # One difference of mean -1 with half-width 0.6 at 95 %: alone it holds; the better of two faces 97.5 %.
    borderline = one([-1.24, -1.0, -0.76])  # s = 0.24: half-width 0.5962 at 95 %, 0.8597 at 97.5 %
    assert decide([borderline])[0] == HOLDS
    noise = one([-1.0, 1.0, 0.1])
    verdict, decisions = decide([noise, borderline])
    assert verdict == UNDECIDED
    assert decisions[1].level == pytest.approx(0.975)
    assert decisions[1].verdict == HOLDS
    assert decisions[0].verdict == UNDECIDED
    # After a first prediction that is undecided the second is, too, however its own 95 % interval lies.
    weak = one([-1.6, -1.0, -0.4])  # s = 0.6: half-width 1.49
    _, (first, second) = decide([weak, weak])
    assert first.verdict == second.verdict == UNDECIDED


def test_claim_needs_all_tests_and_fails_by_one():
    assert combine([HOLDS, HOLDS]) == HOLDS
    assert combine([HOLDS, UNDECIDED]) == UNDECIDED
    assert combine([HOLDS, FAILS, UNDECIDED]) == FAILS
    assert combine([]) == UNDECIDED


def test_error_rate_of_a_claim_without_effect_is_at_most_five_per_cent():
    # 2000 claims of 3 tests of 5 seeds of noise: the rate of wrong decisions has a standard error of 0.0049.
    random = np.random.default_rng(0)
    wrong = sum(
        any(d.verdict != UNDECIDED for d in decide([one(random.normal(size=5)) for _ in range(3)])[1])
        for _ in range(2000)
    )
    assert wrong / 2000 < 0.05 + 4 * 0.0049


def test_slopes_are_those_of_lines():
    assert slopes([[1.0, 5.0], [3.0, 4.0], [7.0, 2.0]], [1, 2, 4]) == pytest.approx([2.0, -1.0])


def test_log_odds_are_finite_at_the_ceiling():
    assert log_odds([0.5, 0.9]) == pytest.approx([0.0, math.log(9.0)])
    assert np.isfinite(log_odds([0.0, 1.0])).all()


def test_differences_that_are_not_numbers_change_no_other_verdict():
    good, lost = one([-1.01, -1.0, -0.99]), one([float("nan"), -1.0, -1.0])
    for order in ([good, lost], [lost, good]):
        verdict, decisions = decide(order)
        assert verdict == UNDECIDED
        assert {decision.prediction is good: decision.verdict for decision in decisions} == {
            True: HOLDS,
            False: UNDECIDED,
        }


def test_prediction_after_one_that_is_undecided_needs_more_seeds_than_there_are():
    weak = one([-1.6, -1.0, -0.4])
    _, decisions = decide([weak, weak])
    assert all(decision.seeds_needed > 3 for decision in decisions)
