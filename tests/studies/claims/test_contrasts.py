"""Contrasts: which cells, with which signs, and as plan.json holds them."""

import json
import math

import pytest

from mamlcli.engine.sizes import count_parameters
from mamlcli.recipe.files import load_recipe
from mamlcli.studies.claims.contrasts import (
    CAPPED_LOSS,
    COLLAPSED,
    EQUAL_TO_KFO,
    EQUAL_TO_SHALLOW,
    LOG_ODDS,
    LOSS,
    OPERATOR,
    CellValue,
    Contrast,
    advantage_shrinks,
    better,
)
from mamlcli.training.experiment import build_network

SCORES = {
    LOSS: {"a": {100: 0.5, 101: 0.4}, "b": {101: 0.7, 100: 0.9, 102: 0.1}},
    LOG_ODDS: {"a": {100: 1.0}, "b": {100: -1.0}},
}


def contrast(measure, terms):
    return Contrast("C4/study/words/measure", "C4", "study", measure, "a better than b", terms, 0.02)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (CellValue(2), "depth 2"),
        (CellValue(1, 1), "depth 1, 1 linear layer"),
        (CellValue(1, 2), "depth 1, 2 linear layers"),
        (CellValue(4, optimizer="kfo"), "depth 4, kfo"),
        (CellValue(2, width=22), "depth 2, width 22"),
        (CellValue(2, 1, "kfo", 8), "depth 2, width 8, 1 linear layer, kfo"),
    ],
)
def test_key_of_a_value_names_what_it_has(value, key):
    assert value.key == key


@pytest.mark.parametrize("measure", [LOSS, CAPPED_LOSS, OPERATOR])
def test_better_is_lower_where_low_is_good(measure):
    assert better("a", "b", measure) == (("a", -1.0), ("b", 1.0))


def test_better_is_higher_on_log_odds():
    assert better("a", "b", LOG_ODDS) == (("a", 1.0), ("b", -1.0))


def test_shrinking_advantage_is_the_shallow_one_minus_the_deep_one():
    terms = dict(advantage_shrinks(("kfo shallow", "shallow"), ("kfo deep", "deep"), LOSS))
    # (shallow - kfo shallow) - (deep - kfo deep)
    assert terms == {"shallow": 1.0, "kfo shallow": -1.0, "deep": -1.0, "kfo deep": 1.0}


def test_differences_are_paired_by_seed_in_growing_order_and_leave_out_seeds_without_a_pair():
    differences = contrast(LOSS, better("a", "b", LOSS)).differences(SCORES)
    assert list(differences) == [100, 101]
    assert list(differences.values()) == pytest.approx([0.4, 0.3])
    assert contrast(LOG_ODDS, better("a", "b", LOG_ODDS)).differences(SCORES) == {100: 2.0}


def test_a_value_without_scores_leaves_no_difference():
    assert contrast(LOSS, better("a", "c", LOSS)).differences(SCORES) == {}
    assert contrast(OPERATOR, better("a", "b", OPERATOR)).differences(SCORES) == {}


def test_prediction_names_study_words_and_measure():
    prediction = contrast(LOSS, better("a", "b", LOSS)).prediction(SCORES, "glyphs, MAML")
    assert prediction.name == "glyphs, MAML: a better than b, on query loss"
    assert (prediction.key, prediction.margin) == ("C4/study/words/measure", 0.02)


def test_cells_to_train_of_a_collapsed_stack_are_those_of_the_stack():
    assert contrast(LOSS, better("a", "a" + COLLAPSED, LOSS)).cells == ("a",)


def test_contrast_comes_back_from_its_json():
    made = contrast(LOSS, advantage_shrinks(("a", "b"), ("c", "d"), LOSS))
    assert Contrast.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_networks_of_equal_size_have_about_as_many_parameters():
    def size(value, transform="none"):
        width = {} if value.width is None else {"model.width": value.width}
        keys = {"model.depth": value.depth, "inner.transform.name": transform, **width}
        _, recipe = load_recipe("glyphs-5way-1shot", [f"{key}={item}" for key, item in keys.items()])
        return count_parameters(dict(build_network(recipe, (1, 28, 28), 5).named_parameters()))

    def kfo_size(rows, columns):
        return rows**2 + columns**2

    shallow = CellValue(1)
    assert (size(shallow), size(EQUAL_TO_SHALLOW)) == (549, 541)
    # U(G) = L G R: conv weight [32, 1, 3, 3] as 32 matrices of [1, 9]; bias, two of norm [32, 1]; head [5, 32], [5, 1].
    kfo = kfo_size(1, 9) + 3 * kfo_size(32, 1) + kfo_size(5, 32) + kfo_size(5, 1)
    assert (kfo, size(EQUAL_TO_KFO)) == (4232, 4801)
    assert math.isclose(size(EQUAL_TO_KFO), size(shallow) + kfo, rel_tol=0.01)
