"""What claims predict of cells, and when a claim is decided."""

import numpy as np
import pytest

from mamlcli.studies.claims.decisions import FAILS, HOLDS, UNDECIDED, Prediction
from mamlcli.studies.claims.predictions import (
    ExactCheck,
    advantage_slopes,
    decided,
    depth_slope,
    difference,
    paired_differences,
    value_key,
    without_result,
)
from tests.helpers.claims import bent, finished_study, spread

CLEAR = Prediction("a minus b", np.array([-1.1, -1.0, -0.9]), -1)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ((2,), "depth 2"),
        ((1, 1), "depth 1, 1 linear layer"),
        ((1, 2), "depth 1, 2 linear layers"),
        ((4, 0, "kfo"), "depth 4, kfo"),
        ((1, 2, "kfo"), "depth 1, 2 linear layers, kfo"),
    ],
)
def test_key_of_a_value_names_what_it_has(value, key):
    assert value_key(*value) == key


def test_difference_is_paired_by_seed_and_says_what_is_compared():
    study = finished_study({"depth 1": [1.0, 1.2, 1.1], "depth 2": [0.5, 0.8, 0.4]})
    prediction = difference(study, "depth 2", "depth 1", sign=-1)
    assert prediction.differences == pytest.approx([-0.5, -0.4, -0.7])
    assert prediction.name == "glyphs, MAML: query loss, depth 2 minus depth 1"


def test_slope_over_depth_is_one_number_for_each_seed():
    study = finished_study({"depth 1": [3.0, 1.0], "depth 3": [1.0, 2.0]})
    assert depth_slope(study, (1, 3)).differences == pytest.approx([-1.0, 0.5])


def test_advantages_are_looked_at_on_log_odds_where_accuracy_has_a_ceiling():
    loss = {value_key(depth, optimizer=name): [0.5] for depth in (1, 2) for name in ("none", "kfo")}
    odds = {"depth 1": [0.5], "depth 1, kfo": [0.75], "depth 2": [0.5], "depth 2, kfo": [0.5]}
    of_loss, of_accuracy = advantage_slopes(finished_study(loss, accuracy=odds), (1, 2), "kfo")
    assert of_loss.differences == pytest.approx([0.0])
    # log(0.75 / 0.25) - log(1) at depth 1, nothing at depth 2.
    assert of_accuracy.differences == pytest.approx([-np.log(3.0)])
    assert (of_loss.predicted_sign, of_accuracy.predicted_sign) == (1, -1)


def test_pairs_without_a_finished_cell_are_named_as_missing():
    study = finished_study({"depth 1": spread(1.0), "depth 2": bent(0.5)})
    pairs = {study.key: [("depth 2", "depth 1"), ("depth 4", "depth 1")], "other": [("a", "b")]}
    predictions, missing = paired_differences([study], pairs)
    assert [prediction.name for prediction in predictions] == ["glyphs, MAML: query loss, depth 2 minus depth 1"]
    assert missing == ["glyphs, MAML: depth 4 or depth 1 did not finish"]


def test_studies_that_are_not_complete_are_named():
    first, second = finished_study({}), finished_study({}, key="glyphs-anil")
    assert without_result([first, second], [second], "cells") == ["glyphs, MAML: cells did not finish"]


@pytest.mark.parametrize(
    ("predictions", "settings", "verdict"),
    [
        ([CLEAR], {}, HOLDS),
        ([CLEAR], {"missing": ["omniglot: no pack"]}, UNDECIDED),
        ([CLEAR], {"checks": [ExactCheck("an identity", 1e-3, 1e-12)]}, FAILS),
        ([CLEAR], {"checks": [ExactCheck("an identity", 1e-12, 1e-12)]}, HOLDS),
        ([], {"checks": [ExactCheck("an identity", 0.0, 1e-12)]}, UNDECIDED),
        ([], {}, UNDECIDED),
    ],
)
def test_claim_holds_only_if_all_predictions_and_checks_do_and_nothing_is_missing(predictions, settings, verdict):
    result = decided("C9", "statement", "rule", predictions, **settings)
    assert result.verdict == verdict
    assert len(result.decisions) == len(predictions)
