"""What `mamlcli layers` finds out, as types, and their JSON."""

import json
import math

import numpy as np
import pytest

from mamlcli.common.statistics import Estimate
from mamlcli.studies.layers.operators import LayerFactors
from mamlcli.studies.layers.results import BottomRow, MovementRow, OperatorReport, PartialRow, PartScore, over_tasks

LOSS, ACCURACY = Estimate(0.5, 0.1, 9), Estimate(0.8, 0.05, 9)


def test_numbers_that_do_not_exist_are_none():
    assert over_tasks(Estimate(0.5, math.nan, 1)) == {"mean": 0.5, "ci95_over_tasks": None}
    assert over_tasks(Estimate(math.inf, math.nan, 1)) == {"mean": None, "ci95_over_tasks": None}


@pytest.mark.parametrize("accuracy", [None, PartScore(ACCURACY, ACCURACY)])
def test_accuracy_is_left_out_where_there_is_none(accuracy):
    row = PartialRow("lower", 1, ("body.0",), PartScore(LOSS, LOSS), accuracy)
    value = row.to_json()
    metrics = ["loss"] if accuracy is None else ["loss", "accuracy"]
    assert list(row.scores) == list(value["minus_all_layers"]) == metrics
    assert ("accuracy" in value) == (accuracy is not None)
    assert value["loss"] == {"mean": 0.5, "ci95_over_tasks": 0.1}


def test_movement_keeps_the_order_of_its_keys():
    value = MovementRow("head.0", 6, 3, 1.5, LOSS, ACCURACY).to_json()
    assert list(value) == ["layer", "num_parameters", "num_adapted", "size", "distance", "relative"]
    assert value["relative"]["mean"] == 0.8


def test_bottom_row_counts_its_layers():
    row = BottomRow(("body.0", "body.1"), True, 4, 4, 100, None, LOSS, ACCURACY)
    value = row.to_json()
    assert next(iter(value)) == "num_layers"
    assert (value["num_layers"], value["layers"], value["explained"]) == (2, ["body.0", "body.1"], None)
    assert value["angle_deg"]["mean"] == 0.5


def test_operator_holds_spectra_and_no_matrices():
    layer = LayerFactors("head.0", np.diag([1.0, 4.0]), np.diag([9.0, 1.0]), 1.0)
    value = OperatorReport(0.1, "none", (layer,), np.array([4.0, 1.0]), None).to_json()
    assert json.loads(json.dumps(value)) == value
    assert value["layers"] == [
        {"layer": "head.0", "share": 1.0, "left_spectrum": [4.0, 1.0], "right_spectrum": [9.0, 1.0]}
    ]
    assert (value["spectrum"], value["optimum"]) == ([4.0, 1.0], None)
