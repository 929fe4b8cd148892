"""How claims are decided."""

import math

import numpy as np
import pytest
from scipy import stats

from mamlcli.studies.claims.decisions import (
    ALPHA,
    FAILS,
    HOLDS,
    MAX_SEEDS,
    NO_EFFECT,
    UNDECIDED,
    UNTIL_DECIDED,
    Looks,
    Prediction,
    decide,
    decide_one,
    log_odds,
    one_look,
)
from tests.helpers.simulated_claims import ERRORS, PLANS, decide_all, decide_one_by_one, draw, simulate

# Mean 0 and standard deviation 1 (ddof 1), four and five seeds.
FOUR = np.array([-1.0, -1.0, 1.0, 1.0]) * math.sqrt(3) / 2
FIVE = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) / math.sqrt(2.5)


def one(differences, margin=0.02, key="a"):
    return Prediction(key, "a minus b", np.array(differences, dtype=np.float64), margin)


def at(mean, deviation, margin=0.02, unit=FOUR):
    """Four differences with this mean and standard deviation."""
    return one(mean + deviation * unit, margin)


def test_thresholds_are_those_of_the_table():
    assert one_look(4).threshold(0) == pytest.approx(3.182446, abs=1e-6)
    assert [UNTIL_DECIDED.threshold(k) for k in range(3)] == pytest.approx([4.01, 2.96, 2.59], abs=0.005)
    assert math.fsum(UNTIL_DECIDED.alphas) == pytest.approx(ALPHA)


def test_interval_is_that_of_students_t_at_the_looks_level():
    decision = decide_one(at(1.0, 0.5), one_look(4))
    # t_{3}(0.975) = 3.182446; 3.182446 * 0.5 / sqrt(4) = 0.795612.
    assert decision.interval.half_width == pytest.approx(0.795612, abs=1e-6)
    assert (decision.interval.mean, decision.interval.level) == (pytest.approx(1.0), pytest.approx(0.95))
    five = decide_one(at(1.0, 0.5, unit=FIVE), UNTIL_DECIDED)
    assert five.interval.level == pytest.approx(1 - 2 * 0.008)
    assert five.interval.half_width == pytest.approx(stats.t.ppf(0.992, 4) * 0.5 / math.sqrt(5))
    assert five.size == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("mean", "deviation", "verdict"),
    [
        (1.0, 0.5, HOLDS),
        (-1.0, 0.5, FAILS),
        (1.0, 0.7, UNDECIDED),  # half-width 1.114
        (0.0, 0.01, NO_EFFECT),  # half-width 0.0159 < 0.02
        (0.0, 0.02, UNDECIDED),
        (0.01, 0.005, NO_EFFECT),  # above zero (0.002), and inside the margin (0.018): the first of the order
        (-0.01, 0.005, NO_EFFECT),
        (0.03, 0.01, HOLDS),  # 0.0141 to 0.0459: reaches out of the margin
    ],
)
def test_verdicts_are_read_off_the_interval_in_their_order(mean, deviation, verdict):
    assert decide_one(at(mean, deviation), one_look(4)).verdict == verdict


def test_p_values_are_those_of_one_sided_t_tests():
    data = np.array([0.3, 0.1, -0.2, 0.4])
    decision = decide_one(one(data, margin=0.5), one_look(4))
    assert decision.p_holds == pytest.approx(stats.ttest_1samp(data, 0, alternative="greater").pvalue)
    assert decision.p_fails == pytest.approx(stats.ttest_1samp(data, 0, alternative="less").pvalue)
    sides = [stats.ttest_1samp(data, -0.5, alternative="greater"), stats.ttest_1samp(data, 0.5, alternative="less")]
    assert decision.p_no_effect == pytest.approx(max(side.pvalue for side in sides))


def test_sequential_p_values_are_the_smallest_over_looks_each_at_its_share_of_the_error():
    data = np.concatenate([1.0 + 0.8 * FIVE, -1.0 + 0.8 * FIVE])
    decision = decide_one(one(data), UNTIL_DECIDED)
    p_values = [stats.ttest_1samp(data[:num], 0, alternative="greater").pvalue for num in (5, 10)]
    assert decision.p_holds == pytest.approx(min(p_values[0], p_values[1]) * 0.025 / 0.008)
    # After two looks, and a share of 0.008 of the error each, a p-value may be as small as its verdict asks.
    assert (decision.p_holds <= ALPHA) == (p_values[0] <= 0.008)


def test_first_verdict_is_final_and_the_interval_of_all_seeds_stands_beside_it():
    data = np.concatenate([1.0 + 0.5 * FIVE, -3.0 + 0.5 * FIVE])
    decision = decide_one(one(data), UNTIL_DECIDED)
    assert (decision.verdict, decision.look, decision.num_looks) == (HOLDS, 1, 3)
    assert (decision.interval.num_seeds, decision.interval.mean) == (5, pytest.approx(1.0))
    assert (decision.of_all_seeds.num_seeds, decision.of_all_seeds.mean) == (10, pytest.approx(-1.0))


def test_seeds_between_looks_are_not_looked_at():
    data = np.concatenate([FIVE, np.full(4, 100.0)])
    decision = decide_one(one(data), UNTIL_DECIDED)
    assert (decision.verdict, decision.look, decision.interval.num_seeds) == (UNDECIDED, 1, 5)
    assert decision.of_all_seeds.num_seeds == 9


def test_before_the_first_look_nothing_is_decided():
    decision = decide_one(one([1.0, 1.1, 0.9]), UNTIL_DECIDED)
    assert (decision.verdict, decision.look) == (UNDECIDED, 0)
    assert math.isnan(decision.p_holds)
    assert decision.interval.num_seeds == 3
    assert decision.seeds_needed == 5  # no fewer than the first look


@pytest.mark.parametrize("data", [[], [1.0]])
def test_fewer_than_two_seeds_say_nothing(data):
    decision = decide_one(one(data), one_look(2))
    assert decision.verdict == UNDECIDED
    assert math.isnan(decision.interval.half_width)
    assert math.isnan(decision.size)
    assert decision.seeds_needed is None


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_differences_that_are_not_numbers_change_no_other_verdict(lost):
    verdict, decisions = decide([at(1.0, 0.5), one([lost, 1.0, 1.0, -lost])], one_look(4))
    assert verdict == UNDECIDED
    assert [decision.verdict for decision in decisions] == [HOLDS, UNDECIDED]
    assert math.isnan(decisions[1].interval.half_width)


def test_a_number_that_is_lost_after_a_look_does_not_undo_it():
    data = np.concatenate([1.0 + 0.5 * FIVE, [math.nan] * 5])
    assert decide_one(one(data), UNTIL_DECIDED).verdict == HOLDS


@pytest.mark.parametrize("same", [0.0, 0.3, -0.3])
def test_differences_without_variance_are_undecided(same):
    decision = decide_one(one([same] * 4), one_look(4))
    assert decision.verdict == UNDECIDED
    assert (decision.p_holds, decision.p_fails, decision.p_no_effect) == (1.0, 1.0, 1.0)
    rounded = decide_one(one([same, same * (1 + 1e-16), same * (1 - 1e-15), same]), one_look(4))
    assert rounded.verdict == UNDECIDED


def test_claim_holds_when_each_prediction_does_without_correction():
    # t = 3.5 with 3 degrees of freedom: p = 0.0197, below 0.025 and far above 0.025 / 8.
    borderline = at(3.5 / 2, 1.0)
    assert decide([borderline] * 8, one_look(4))[0] == HOLDS
    assert decide([*[borderline] * 7, at(0.5, 1.0)], one_look(4))[0] == UNDECIDED
    assert decide([], one_look(4))[0] == UNDECIDED


def test_claim_fails_by_one_prediction_only_after_holm():
    clear, borderline, held = at(-10.0, 1.0), at(-3.5 / 2, 1.0), at(10.0, 1.0)
    assert decide([borderline], one_look(4))[0] == UNDECIDED  # of two tests the smaller faces 0.0125
    assert decide([clear, held, held], one_look(4))[0] == FAILS  # p = 0.00014 < 0.025 / 6
    verdict, decisions = decide([borderline, held, held], one_look(4))
    assert (verdict, decisions[0].verdict) == (UNDECIDED, FAILS)


def test_holm_asks_less_of_the_second_smallest():
    # Of four tests the smallest faces 0.025 / 4 = 0.00625, the next 0.025 / 3 = 0.00833: t = 4.96 gives p = 0.0079.
    second = at(0.0, 0.02 / (4.96 / 2), margin=0.02)
    assert decide_one(second, one_look(4)).p_no_effect == pytest.approx(0.0079, abs=1e-4)
    assert decide([at(0.3, 0.1), second], one_look(4))[0] == UNDECIDED
    clear = at(0.0, 0.001, margin=0.02)
    assert decide([clear, second], one_look(4))[0] == NO_EFFECT


def test_a_claim_does_not_fail_by_a_prediction_without_relevant_effect():
    # Below zero and inside the margin, with small p-values of both.
    small = at(-0.01, 0.0005)
    verdict, (decision,) = decide([small], one_look(4))
    assert decision.p_fails < ALPHA / 2
    assert (verdict, decision.verdict) == (NO_EFFECT, NO_EFFECT)


def test_where_one_fails_and_another_has_no_relevant_effect_the_claim_fails():
    assert decide([at(-10.0, 1.0), at(0.0, 0.001)], one_look(4))[0] == FAILS


def test_the_verdict_of_a_claim_is_final_at_the_first_look_that_gives_one():
    """Other claims may add seeds to a decided claim's cells; a second prediction that fails then changes nothing."""
    generator = np.random.default_rng(0)
    no_effect = one(1e-4 * generator.standard_normal(10))
    wide_then_fails = np.concatenate([[-2.0, 1.0, -1.0, 0.5, 0.2], -1.0 - 0.01 * generator.standard_normal(5)])
    early = [no_effect, one(wide_then_fails[:5], key="b")]
    late = [no_effect, one(np.concatenate([wide_then_fails, np.full(10, -1.0)]), key="b")]
    assert decide(early, UNTIL_DECIDED)[0] == NO_EFFECT
    verdict, (_, second) = decide(late, UNTIL_DECIDED)
    assert second.verdict == FAILS
    assert second.p_fails < ALPHA / 4
    assert verdict == NO_EFFECT


def test_seeds_needed_are_the_first_at_which_the_last_looks_level_decides():
    # mean 1, s = 1: t_{n-1}(0.975) / sqrt(n) < 1 first at n = 7 (2.4469 / 2.6458; n = 6: 2.5706 / 2.4495 > 1).
    assert decide_one(at(1.0, 1.0), one_look(4)).seeds_needed == 7
    # mean 0, s = 1, margin 1: the same width must be inside the margin.
    assert decide_one(at(0.0, 1.0, margin=1.0), one_look(4)).seeds_needed == 7
    assert decide_one(at(0.001, 1.0), one_look(4)).seeds_needed == MAX_SEEDS + 1
    assert decide_one(at(10.0, 1.0), one_look(4)).seeds_needed is None


def test_looks_must_spend_the_whole_error_and_grow():
    for seeds, alphas in [((4,), (0.05,)), ((5, 4), (0.0125, 0.0125)), ((1,), (0.025,)), ((), ())]:
        with pytest.raises(AssertionError):
            Looks(seeds, alphas)


def test_log_odds_are_finite_at_the_ceiling():
    assert log_odds([0.5, 0.9]) == pytest.approx([0.0, math.log(9.0)])
    assert np.isfinite(log_odds([0.0, 1.0])).all()


# The whole procedure ----------------------------------------------------------------------------------------------

NUM_REPRODUCTIONS = 4000


@pytest.mark.parametrize("looks", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize(("effects", "margin"), [((0.0, 0.6, 3.0), 0.7), ((-1.5, 0.0, 2.0, 2.0), 0.9)])
def test_simulation_decides_as_the_program_does(looks, effects, margin):
    differences = draw(np.random.default_rng(0), effects, looks.seeds[-1], 60)
    simulated = decide_all(differences, np.array(effects), margin, looks)
    verdicts, seeds = decide_one_by_one(differences, margin, looks)
    assert simulated.claims.tolist() == verdicts
    assert simulated.seeds.tolist() == seeds
    assert len(set(verdicts)) > 1


@pytest.mark.parametrize("looks", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize(("words", "effects", "margin", "wrong"), ERRORS, ids=[words for words, *_ in ERRORS])
def test_wrong_verdicts_of_whole_reproductions_are_at_most_five_per_cent(looks, words, effects, margin, wrong):
    # Predictions share a baseline cell; seeds are added at each look to those that are open, until all is decided.
    decided = simulate(effects, margin, looks, NUM_REPRODUCTIONS)
    assert decided.share(*wrong) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / NUM_REPRODUCTIONS)
    # Each wrong verdict by itself is one-sided: at most 2.5 %.
    for verdict in wrong:
        assert decided.share(verdict) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / NUM_REPRODUCTIONS)


@pytest.mark.parametrize("looks", PLANS.values(), ids=PLANS)
def test_a_null_prediction_makes_a_claim_hold_as_often_as_its_level_says(looks):
    # The bound is reached, up to what the union bound over looks costs: a procedure that never decides has no errors.
    decided = simulate((0.0, 10.0, 10.0, 10.0), 0.01, looks, NUM_REPRODUCTIONS)
    assert decided.share(HOLDS) > 0.015


@pytest.mark.parametrize("looks", PLANS.values(), ids=PLANS)
def test_intervals_of_all_looks_hold_the_truth_together(looks):
    covered = simulate((0.5,), 0.01, looks, NUM_REPRODUCTIONS).is_covered.mean()
    assert covered >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / NUM_REPRODUCTIONS)


def test_power_is_near_that_of_the_plan():
    # Evidence of a prototype at effects of 2, 3 and 4 standard deviations: 0.75, 0.97, 1.0 at one look at 4 seeds.
    powers = [simulate((size,), 0.01, one_look(4), NUM_REPRODUCTIONS).share(HOLDS) for size in (2.0, 3.0, 4.0)]
    assert powers == pytest.approx([0.75, 0.97, 1.0], abs=0.03)
    powers = [
        np.mean(
            [
                decide_one(one(values), UNTIL_DECIDED).verdict == HOLDS
                for values in draw(np.random.default_rng(1), (size,), 5, 400)[:, 0]
            ]
        )
        for size in (2.0, 3.0, 4.0)
    ]
    # Its first look at 5 seeds: 0.67, 0.95, 1.0; 400 draws have a standard error of 0.024.
    assert powers == pytest.approx([0.67, 0.95, 1.0], abs=0.06)


def test_true_effects_at_zero_are_found_to_be_without_relevance():
    assert simulate((0.0,) * 4, 4.0, one_look(4), NUM_REPRODUCTIONS).share(NO_EFFECT) > 0.9
