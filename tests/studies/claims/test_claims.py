"""Claims: from results to verdicts."""

from dataclasses import replace

import numpy as np
import pytest

from mamlcli.studies.claims import claims, identity
from mamlcli.studies.claims.decisions import FAILS, HOLDS, UNDECIDED
from mamlcli.studies.claims.predictions import Study, value_key
from mamlcli.studies.layers.optimum import OperatorComparison, OptimumReport
from mamlcli.studies.sweeps.cell_result import Collapse, CollapseRecord
from mamlcli.studies.sweeps.scores import GridValue
from tests.studies.sweeps.test_axes import grid_result


def study(loss, *, accuracy=None, key="glyphs-maml", cells=(), operators=None):
    scores = {
        "loss": {name: np.array(values, dtype=float) for name, values in loss.items()},
        "accuracy": {name: np.array(values, dtype=float) for name, values in (accuracy or {}).items()},
    }
    return Study(key, "glyphs, MAML", scores, replace(grid_result(), cells=tuple(cells)), operators or {})


def spread(mean, num=3):
    """Values around a mean that differ from seed to seed as any pair of cells would."""
    return mean + 0.01 * np.arange(num)


def bent(mean, by=0.005):
    """As `spread`, with one seed off the line, so that paired differences have a variance."""
    return spread(mean) + np.array([0.0, by, 0.0])


DEPTHS = {value_key(1): spread(1.0), value_key(2): bent(0.7), value_key(4): spread(0.2)}


def collapse_cell(*, layers, collapsed, difference=1e-7, num_parameters=100):
    record = CollapseRecord(num_parameters, collapsed, 12, difference, difference, tolerance=1e-4)
    cell = replace(grid_result().cells[0], value=GridValue(1, "none", layers), num_parameters=num_parameters)
    return replace(cell, collapse=Collapse(collapsed, record))


def test_identity_of_three_layers_and_kfo_holds_to_rounding_at_every_step():
    assert identity.identity_error(num_steps=1) < identity.IDENTITY_TOLERANCE
    assert identity.identity_error(num_steps=5, seed=3) < identity.IDENTITY_TOLERANCE


def test_identity_check_would_notice_a_wrong_operator(monkeypatch):
    # Without psd the factors are U^T and A themselves, which do not even fit: the check compares two real paths.
    from mamlcli.engine.transforms import KFO

    class Off(KFO):
        def factors(self, xi, name):
            left, right = super().factors(xi, name)
            return 1.001 * left, right

    monkeypatch.setattr("mamlcli.studies.claims.identity.KFO", Off)
    assert identity.identity_error() > 1e-4


def test_c2_holds_when_the_loss_falls_with_depth_and_fails_when_it_rises():
    assert claims.c2([study(DEPTHS)], (1, 2, 4)).verdict == HOLDS
    rising = {
        value_key(1): DEPTHS[value_key(4)],
        value_key(2): DEPTHS[value_key(2)],
        value_key(4): DEPTHS[value_key(1)],
    }
    assert claims.c2([study(rising)], (1, 2, 4)).verdict == FAILS


def test_c2_is_undecided_with_two_seeds():
    assert claims.c2([study({key: values[:2] for key, values in DEPTHS.items()})], (1, 2, 4)).verdict == UNDECIDED


def test_missing_cells_leave_a_claim_undecided_and_are_named():
    result = claims.c2([study({value_key(1): spread(1.0)})], (1, 2, 4))
    assert result.verdict == UNDECIDED
    assert "did not finish" in result.missing[0]


def test_c3_fails_when_collapsed_outputs_differ_whatever_adaptation_gains():
    loss = {value_key(1): spread(1.0), value_key(1, layers=1): bent(0.5)}
    cells = [collapse_cell(layers=0, collapsed=100), collapse_cell(layers=1, collapsed=100, num_parameters=200)]
    assert claims.c3([study(loss, cells=cells)], (1,)).verdict == HOLDS
    apart = [cells[0], collapse_cell(layers=1, collapsed=100, difference=1e-2)]
    assert claims.c3([study(loss, cells=apart)], (1,)).verdict == FAILS
    larger = [cells[0], collapse_cell(layers=1, collapsed=120)]
    assert claims.c3([study(loss, cells=larger)], (1,)).verdict == FAILS


def test_c4_needs_every_transform():
    loss = {
        value_key(1): spread(1.0),
        value_key(1, optimizer="kfo"): bent(0.5),
        value_key(1, optimizer="meta-sgd"): spread(1.0) + np.array([0.1, -0.1, 0.02]),
    }
    assert claims.c4([study(loss)], ("kfo",)).verdict == HOLDS
    result = claims.c4([study(loss)], ("kfo", "meta-sgd"))
    assert result.verdict == UNDECIDED
    assert [decision.verdict for decision in result.decisions] == [HOLDS, UNDECIDED]


def test_c5_looks_at_loss_and_at_log_odds():
    kfo = {value_key(depth, optimizer="kfo"): spread(0.2) for depth in (1, 2, 4)}
    accuracy = {
        **{value_key(depth): spread(mean) for depth, mean in ((1, 0.4), (2, 0.6), (4, 0.9))},
        **{value_key(depth, optimizer="kfo"): bent(0.9, 0.002 * depth) for depth in (1, 2, 4)},
    }
    result = claims.c5([study({**DEPTHS, **kfo}, accuracy=accuracy)], (1, 2, 4), "kfo")
    assert result.verdict == HOLDS
    # By hand: differences of loss about -0.8, -0.5, 0 at depths 1, 2, 4: slope 0.26 per layer.
    assert result.decisions[0].mean == pytest.approx(0.264, abs=0.01)
    assert [decision.prediction.predicted_sign for decision in result.decisions] == [1, -1]


def test_c7_compares_learned_operators_with_the_best_one():
    def reports(distances):
        operators = [OperatorComparison(np.eye(2), 1.0, 1.0, distance, loss=0.1) for distance in distances]
        return [OptimumReport(operator, operator, None, operator, 0.9) for operator in operators]

    near = study({}, operators={value_key(1): reports([0.8, 0.81, 0.8]), value_key(2): reports([0.3, 0.31, 0.32])})
    assert claims.c7(near).verdict == HOLDS
    assert claims.c7(None).verdict == UNDECIDED
