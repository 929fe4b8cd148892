"""What has finished of an axis value, and the inner learning rate that is chosen for it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import recipe_to_yaml
from mamlcli.studies.sweeps.finished import can_read_extras, diverged_share, finished_cell, has_result
from mamlcli.studies.sweeps.sweep import LAYERS, cells_of
from tests.helpers.studies import fake_run, tiny_sweep

COLLAPSE = {
    "num_parameters": 20,
    "num_parameters_collapsed": 8,
    "num_tasks": 12,
    "largest_difference": 0.0,
    "largest_relative_difference": 0.0,
    "tolerance": 1e-4,
}


def sweep_with_runs(path, losses):
    """Return a sweep of one depth and two seeds with a scored run of every cell; validation losses by rate."""
    sweep = tiny_sweep(depths=(1,), inner_lrs=tuple(losses))
    for cell in cells_of(sweep):
        folder = path / "cells" / cell.name
        fake_run(folder, [losses[cell.inner_lr]], key="loss")
        (folder / "recipe.yaml").write_text(recipe_to_yaml(cell.recipe))
        (folder / "evaluation.json").write_text("{}")
    return sweep


def finished(sweep, path, failed=(), diverged=()):
    return finished_cell(sweep, sweep.values[0], cells_of(sweep), path, failed=failed, diverged=diverged)


def test_runs_are_those_at_the_rate_with_the_lowest_validation_loss(tmp_path):
    cell = finished(sweep_with_runs(tmp_path, {0.1: 0.9, 0.4: 0.3}), tmp_path)
    assert cell.inner_lr == 0.4
    assert {seed: run.path.name for seed, run in cell.runs.items()} == {
        0: "depth-1-lr0.4-seed-0",
        1: "depth-1-lr0.4-seed-1",
    }
    assert [candidate.validation_score for candidate in cell.candidates] == [-0.9, -0.3]


def test_without_a_choice_the_rate_is_the_recipes_and_a_failed_cell_has_no_run(tmp_path):
    sweep = replace(sweep_with_runs(tmp_path, {0.5: 0.9}), inner_lrs=())
    for cell in cells_of(sweep):
        (tmp_path / "cells" / cell.name).mkdir()
        (tmp_path / "cells" / cell.name / "evaluation.json").write_text("{}")
    cell = finished(sweep, tmp_path, failed=["depth-1-seed-1"])
    assert (cell.inner_lr, list(cell.runs), cell.candidates) == (0.5, [0], ())


def test_a_rate_that_failed_leaves_no_choice_among_the_others(tmp_path):
    sweep = sweep_with_runs(tmp_path, {0.1: 0.9, 0.4: 0.3})
    cell = finished(sweep, tmp_path, failed=["depth-1-lr0.1-seed-1"])
    assert cell.runs == {}
    assert not cell.has_diverged


def test_a_rate_that_diverged_is_passed_over_and_if_all_did_there_is_no_run(tmp_path):
    sweep = sweep_with_runs(tmp_path, {0.1: 0.9, 0.4: 0.3})
    one = ["depth-1-lr0.4-seed-0"]
    cell = finished(sweep, tmp_path, failed=one, diverged=one)
    assert (cell.inner_lr, len(cell.runs), cell.has_diverged) == (0.1, 2, False)
    both = [*one, "depth-1-lr0.1-seed-1"]
    cell = finished(sweep, tmp_path, failed=both, diverged=both)
    assert (cell.runs, cell.has_diverged) == ({}, True)


def test_collapse_is_that_of_the_run_that_is_farthest_from_its_stack(tmp_path):
    sweep = replace(sweep_with_runs(tmp_path, {0.5: 0.9}), with_collapse=True, axis=LAYERS)
    for cell, difference in zip(cells_of(sweep), (1e-9, 1e-7), strict=True):
        assert not has_result(sweep, tmp_path / "cells" / cell.name)
        record = {**COLLAPSE, "largest_relative_difference": difference}
        (tmp_path / "cells" / cell.name / "collapse.json").write_text(json.dumps(record))
    collapse = finished(sweep, tmp_path).collapse
    assert collapse.num_parameters == 8
    assert collapse.worst.largest_relative_difference == pytest.approx(1e-7)


def test_a_run_that_could_not_be_compared_with_its_stack_is_not_the_farthest(tmp_path):
    sweep = replace(sweep_with_runs(tmp_path, {0.5: 0.9}), with_collapse=True, axis=LAYERS)
    for cell, difference in zip(cells_of(sweep), (None, 1e-7), strict=True):
        record = {**COLLAPSE, "largest_difference": difference, "largest_relative_difference": difference}
        (tmp_path / "cells" / cell.name / "collapse.json").write_text(json.dumps(record))
    worst = finished(sweep, tmp_path).collapse.worst
    assert worst.largest_relative_difference == pytest.approx(1e-7)
    assert worst.agrees


def test_a_damaged_collapse_is_to_be_written_again_and_named_where_it_is_read(tmp_path):
    sweep = replace(sweep_with_runs(tmp_path, {0.5: 0.9}), with_collapse=True, axis=LAYERS)
    for cell in cells_of(sweep):
        folder = tmp_path / "cells" / cell.name
        (folder / "collapse.json").write_text(json.dumps(COLLAPSE))
        assert can_read_extras(sweep, folder)
        (folder / "collapse.json").write_text('{"num_tasks"')
        assert has_result(sweep, folder)
        assert not can_read_extras(sweep, folder)
    with pytest.raises(RunError, match=r"seed-0/collapse\.json: expected a record.*Delete the file and run the study"):
        finished(sweep, tmp_path)


def test_tasks_diverge_that_are_not_finite_or_ten_times_worse_than_before():
    losses = np.array([[1.0, 0.5], [1.0, 9.9], [1.0, 10.1], [1.0, np.inf], [1.0, np.nan]])
    assert diverged_share(losses) == 0.6
