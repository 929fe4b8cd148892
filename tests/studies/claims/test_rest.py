"""What open predictions still need, in the plan's looks or in a new plan."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mamlcli.studies.claims.decisions import ALPHA, FAILS, Looks, Prediction, decide_one, one_look
from mamlcli.studies.claims.rest import NewPlan, Rest, most_seeds, new_plan_command, rest_words, seeds_of_open
from mamlcli.studies.claims.scales import SCALES
from tests.helpers.reproductions import tiny_plan

LOOKS = Looks((4, 20), (0.0125, 0.0125))
# Mean 0.5, standard deviation 1, margin 0.02.
DATA = 0.5 + stats.zscore(np.array([1.0, 2.0, 3.0, 4.0]), ddof=1)


def decision(verdict="undecided", looks=LOOKS):
    return replace(decide_one(Prediction("a", "a", DATA, 0.02), looks), verdict=verdict)


def first_seeds(alpha):
    """The first number of seeds whose interval, at mean 0.5 and deviation 1, is above zero."""
    return next(n for n in range(2, 1000) if stats.t.ppf(1 - alpha, n - 1) / np.sqrt(n) < 0.5)


def test_a_new_plan_has_the_whole_error_at_its_one_look_and_the_plan_that_of_its_last():
    assert seeds_of_open(decision(), 3, LOOKS, is_new_plan=True) == first_seeds(ALPHA)
    assert seeds_of_open(decision(), 3, LOOKS, is_new_plan=False) == first_seeds(0.0125)
    assert first_seeds(0.0125) > first_seeds(ALPHA)


def test_what_waits_for_holm_needs_its_smallest_level():
    # Three deciding predictions have six tests.
    assert seeds_of_open(decision(FAILS), 3, LOOKS, is_new_plan=True) == first_seeds(ALPHA / 6)
    assert seeds_of_open(decision(FAILS), 3, LOOKS, is_new_plan=False) == first_seeds(0.0125 / 6)


def test_differences_that_are_all_the_same_allow_no_estimate():
    same = decide_one(Prediction("a", "a", np.full(4, 0.3), 0.02), one_look(4))
    assert seeds_of_open(same, 1, one_look(4), is_new_plan=True) is None
    assert rest_words(Rest(None, None, True), "undecided") == "cannot be estimated: all seeds differ by the same"


def test_a_rest_in_words():
    assert rest_words(Rest(9, 0.5), "undecided") == "9 seeds, 30 min"
    assert rest_words(Rest(9, 0.5, is_new_plan=True), "undecided") == "9 seeds in a new plan, 30 min"
    assert rest_words(Rest(1001, 0.5), "undecided") == "more than 1000 seeds"
    assert rest_words(Rest(9, 0.5, True), FAILS) == "fails by itself; for the claim 9 seeds in a new plan, 30 min"


@pytest.mark.parametrize(("seeds", "is_practical"), [(40, True), (1001, False), (None, False)])
def test_a_rest_of_more_than_a_thousand_seeds_is_not_practical(seeds, is_practical):
    assert Rest(seeds, None if seeds is None else 1.0).is_practical == is_practical


def test_a_new_plan_has_the_most_seeds_that_are_practical():
    assert most_seeds([Rest(9, 1.0, True), Rest(16, 1.0, True), Rest(1001, 9.0, True), Rest(30, 1.0)]) == 16
    assert most_seeds([Rest(None, None, True), Rest(30, 1.0)]) is None


def test_the_command_of_a_new_plan_names_seeds_that_no_look_has():
    command = new_plan_command(tiny_plan(), 16)  # looks at 2 and 4 seeds from 100
    assert command == "mamlcli reproduce --scale tiny --seeds 16 --first-seed 104 --dir NEW"
    words = NewPlan(16, 104, 2.5, command).words
    assert f"A new plan with one look at 16 seeds, on seeds that are not these: `{command}`, about 2.5 h." in words


def test_optional_families_of_a_scale_and_chosen_rates_stay_in_the_command():
    scale = SCALES["evening"]()
    name, families = next(iter(scale.optional.items()))
    plan = tiny_plan(scale="evening", families=(*scale.families, *families))
    assert f"--family {name}" in new_plan_command(plan, 5)
    laptop = tiny_plan(scale="laptop", families=SCALES["laptop"]().families, rates_from="pilots")
    assert "--choose-rates" in new_plan_command(laptop, 5)
    assert "--choose-rates" not in new_plan_command(replace(laptop, rates_from="scale"), 5)
