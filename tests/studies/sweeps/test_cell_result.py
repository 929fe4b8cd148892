"""One axis value of a result as a type, and its JSON."""

import json
from dataclasses import replace

import pytest

from mamlcli.studies.sweeps.cell_result import CellResult, Collapse, CollapseRecord
from tests.helpers.studies import depth_result, full_result, grid_result

RECORD = CollapseRecord(20, 8, 12, largest_difference=1e-6, largest_relative_difference=1e-4, tolerance=1e-4)


def test_outputs_agree_up_to_the_tolerance():
    assert RECORD.agrees
    assert not replace(RECORD, largest_relative_difference=1.1e-4).agrees


def test_a_record_without_a_comparison_comes_back_and_says_nothing_against_the_stack():
    value = {**RECORD.to_json(), "num_tasks": 0, "largest_difference": None, "largest_relative_difference": None}
    del value["num_not_finite"]  # as older versions wrote it
    none = CollapseRecord.from_json(value)
    assert none.agrees
    assert not none.is_compared
    assert Collapse.of([none, RECORD, replace(RECORD, largest_relative_difference=1e-5)]) == Collapse(8, RECORD)
    assert not Collapse.of([none]).worst.is_compared


def test_collapse_of_a_cell_is_flat_in_its_json_beside_the_whole_record():
    cell = replace(depth_result().cells[0], collapse=Collapse(8, RECORD))
    value = cell.to_json()
    assert (value["num_parameters_collapsed"], value["collapse_max_difference"]) == (8, 1e-4)
    assert CollapseRecord.from_json(value["collapse"]) == RECORD


def test_final_scores_are_those_of_the_last_step():
    cell = grid_result().cells[1]
    assert cell.final.mean("accuracy") == pytest.approx(0.65)
    assert cell.to_json()["accuracy"] == {"mean": cell.final.mean("accuracy"), "ci95_over_seeds": 0.01}


def test_what_a_cell_does_not_have_is_not_in_its_json():
    absent = {"inner_lr_candidates", "collapse", "capacity", "diverged_tasks", "num_parameters_collapsed"}
    assert not absent & set(depth_result().cells[0].to_json())


@pytest.mark.parametrize("index", range(4))
def test_cell_is_read_from_json_as_it_was_written(index):
    cell = full_result().cells[index]
    assert CellResult.from_json(json.loads(json.dumps(cell.to_json()))) == cell


def test_keys_of_older_versions_are_not_read():
    cell = grid_result().cells[0]
    assert CellResult.from_json({**cell.to_json(), "at_fixed_rate": {"inner_lr": 0.4, "loss": None}}) == cell


def test_only_a_cell_of_a_grid_has_a_depth_and_an_optimizer():
    assert grid_result().cells[1].grid.optimizer == "kfo"
    with pytest.raises(AssertionError, match="not a cell of a grid"):
        _ = depth_result().cells[0].grid
