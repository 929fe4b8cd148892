"""Claims: from results to verdicts."""

import numpy as np
import pytest

from mamlcli.studies.claims import claims
from mamlcli.studies.claims.decisions import FAILS, HOLDS, UNDECIDED
from mamlcli.studies.claims.predictions import value_key
from mamlcli.studies.layers.optimum import OperatorComparison, OptimumReport
from tests.helpers.claims import DEPTHS, bent, collapse_cell, finished_study, spread


def test_c2_holds_when_the_loss_falls_with_depth_and_fails_when_it_rises():
    assert claims.c2([finished_study(DEPTHS)], (1, 2, 4)).verdict == HOLDS
    rising = {
        value_key(1): DEPTHS[value_key(4)],
        value_key(2): DEPTHS[value_key(2)],
        value_key(4): DEPTHS[value_key(1)],
    }
    assert claims.c2([finished_study(rising)], (1, 2, 4)).verdict == FAILS


def test_c2_is_undecided_with_two_seeds():
    assert (
        claims.c2([finished_study({key: values[:2] for key, values in DEPTHS.items()})], (1, 2, 4)).verdict == UNDECIDED
    )


def test_missing_cells_leave_a_claim_undecided_and_are_named():
    result = claims.c2([finished_study({value_key(1): spread(1.0)})], (1, 2, 4))
    assert result.verdict == UNDECIDED
    assert "did not finish" in result.missing[0]


def test_c3_fails_when_collapsed_outputs_differ_whatever_adaptation_gains():
    loss = {value_key(1): spread(1.0), value_key(1, layers=1): bent(0.5)}
    cells = [collapse_cell(layers=0, collapsed=100), collapse_cell(layers=1, collapsed=100, num_parameters=200)]
    assert claims.c3([finished_study(loss, cells=cells)], (1,)).verdict == HOLDS
    apart = [cells[0], collapse_cell(layers=1, collapsed=100, difference=1e-2)]
    assert claims.c3([finished_study(loss, cells=apart)], (1,)).verdict == FAILS
    larger = [cells[0], collapse_cell(layers=1, collapsed=120)]
    assert claims.c3([finished_study(loss, cells=larger)], (1,)).verdict == FAILS


def test_c4_needs_every_transform():
    loss = {
        value_key(1): spread(1.0),
        value_key(1, optimizer="kfo"): bent(0.5),
        value_key(1, optimizer="meta-sgd"): spread(1.0) + np.array([0.1, -0.1, 0.02]),
    }
    assert claims.c4([finished_study(loss)], ("kfo",)).verdict == HOLDS
    result = claims.c4([finished_study(loss)], ("kfo", "meta-sgd"))
    assert result.verdict == UNDECIDED
    assert [decision.verdict for decision in result.decisions] == [HOLDS, UNDECIDED]


def test_c5_looks_at_loss_and_at_log_odds():
    kfo = {value_key(depth, optimizer="kfo"): spread(0.2) for depth in (1, 2, 4)}
    accuracy = {
        **{value_key(depth): spread(mean) for depth, mean in ((1, 0.4), (2, 0.6), (4, 0.9))},
        **{value_key(depth, optimizer="kfo"): bent(0.9, 0.002 * depth) for depth in (1, 2, 4)},
    }
    result = claims.c5([finished_study({**DEPTHS, **kfo}, accuracy=accuracy)], (1, 2, 4), "kfo")
    assert result.verdict == HOLDS
    # By hand: differences of loss about -0.8, -0.5, 0 at depths 1, 2, 4: slope 0.26 per layer.
    assert result.decisions[0].mean == pytest.approx(0.264, abs=0.01)
    assert [decision.prediction.predicted_sign for decision in result.decisions] == [1, -1]


def test_c7_compares_learned_operators_with_the_best_one():
    def reports(distances):
        operators = [OperatorComparison(np.eye(2), 1.0, 1.0, distance, loss=0.1) for distance in distances]
        return [OptimumReport(operator, operator, None, operator, 0.9) for operator in operators]

    near = finished_study(
        {}, operators={value_key(1): reports([0.8, 0.81, 0.8]), value_key(2): reports([0.3, 0.31, 0.32])}
    )
    assert claims.c7(near).verdict == HOLDS
    assert claims.c7(None).verdict == UNDECIDED
