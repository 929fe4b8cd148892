"""Cells as a process runs them, alone and together."""

import json
from dataclasses import replace

import pytest

from mamlcli.common.errors import Interrupted, NonFiniteError
from mamlcli.common.processes.jobs import Outcome
from mamlcli.recipe.files import load_recipe
from mamlcli.studies.sweeps.axes import linear_sweep
from mamlcli.studies.sweeps.cells import CellFailure, can_share, cell_outcomes, group_sizes, run_cells
from mamlcli.studies.sweeps.folder import open_study
from mamlcli.studies.sweeps.run import cell_job
from mamlcli.studies.sweeps.sweep import cells_of
from mamlcli.training.run import train_runs
from tests.helpers.studies import recipe_of, run_here, small_sweep


def test_a_cell_of_add_linear_records_its_collapse(tmp_path):
    sweep = linear_sweep("logistic", recipe_of("logistic"), layers=[1], num_seeds=1)
    [cell] = cells_of(sweep)
    run_cells(cell_job(sweep, tmp_path, [cell], argv=[], num_threads=1).payload, lambda: False)
    record = json.loads((tmp_path / "cells" / "1-layer-seed-0" / "collapse.json").read_text())
    assert record["num_parameters_collapsed"] == 8


def test_a_damaged_evaluation_is_written_again_from_the_checkpoint(study, tmp_path):
    sweep, _ = study
    sweep = replace(sweep, values=sweep.values[:1], num_seeds=1, pairs=())
    path = tmp_path / "study"
    run_here(sweep, path)
    file = path / "cells" / "depth-1-seed-0" / "evaluation.json"
    before = json.loads(file.read_text())
    file.write_text("{")
    run_here(sweep, path)
    assert json.loads(file.read_text()) == before


def test_seeds_of_a_small_model_are_shared_out_evenly_four_at_most():
    assert [group_sizes(number) for number in (1, 2, 4, 5, 8, 9, 10)] == [
        [1],
        [2],
        [4],
        [3, 2],
        [4, 4],
        [3, 3, 3],
        [4, 3, 3],
    ]


def test_only_small_models_on_the_explicit_path_of_the_cpu_share_a_job():
    assert all(can_share(load_recipe(name, ["execution.device=cpu"])[1]) for name in ("sinusoid", "logistic"))
    assert not can_share(load_recipe("sinusoid", ["model.width=400", "execution.device=cpu"])[1])
    assert not can_share(load_recipe("sinusoid", ["execution.path=loop"])[1])
    assert not can_share(load_recipe("glyphs-5way-1shot")[1])


def test_a_shared_job_finishes_what_is_left_of_its_cells_and_tells_which_failed(tmp_path, monkeypatch):
    sweep = small_sweep(3)
    open_study(tmp_path, sweep, "command")
    cells = [cell for cell in cells_of(sweep) if cell.value.value == 1]
    run_cells(cell_job(sweep, tmp_path, cells[:1], argv=[], num_threads=1).payload, lambda: False)
    before = (tmp_path / "cells" / cells[0].name / "evaluation.json").read_text()
    job = cell_job(sweep, tmp_path, cells, argv=[], num_threads=1)
    calls = iter([False] * 3 + [True])
    with pytest.raises(Interrupted):
        run_cells(job.payload, lambda: next(calls))

    def fails_once(runs, **settings):
        if len(runs) == 1:  # tried again alone
            return train_runs(runs, **settings)
        assert len(runs) == 2  # the first is done
        return [NonFiniteError("iteration 3", expected="finite", got="inf"), OSError("disk full")]

    monkeypatch.setattr("mamlcli.studies.sweeps.cells.train_runs", fails_once)
    value = run_cells(job.payload, lambda: False)
    assert value == {cells[1].name: CellFailure("iteration 3: expected finite, got inf.", "NonFiniteError")}
    assert (tmp_path / "cells" / cells[0].name / "evaluation.json").read_text() == before
    assert (tmp_path / "cells" / cells[2].name / "evaluation.json").is_file()  # tried again alone


def test_the_outcome_of_a_shared_job_is_that_of_each_cell():
    value = {"b": CellFailure("why", "NonFiniteError")}
    parts = cell_outcomes(Outcome("a", "done", value, wall_s=4.0), ["a", "b"], is_done=lambda _: False)
    assert [(part.key, part.status, part.reason, part.wall_s) for part in parts] == [
        ("a", "done", "", 2.0),
        ("b", "failed", "why", 2.0),
    ]
    died = Outcome("a", "failed", reason="killed", error="died")
    parts = cell_outcomes(died, ["a", "b"], is_done=lambda name: name == "a")
    assert [(part.key, part.status, part.error) for part in parts] == [("a", "done", ""), ("b", "failed", "died")]


def test_no_cell_computes_the_probe_that_no_study_shows(tmp_path, monkeypatch):
    sweep = small_sweep(1)
    planned = []

    def train(runs, **keys):
        planned.extend(runs)
        return train_runs(runs, **keys)

    monkeypatch.setattr("mamlcli.studies.sweeps.cells.train_runs", train)
    run_cells(cell_job(sweep, tmp_path, cells_of(sweep)[:1], argv=[], num_threads=1).payload, lambda: False)
    assert [run.with_probe for run in planned] == [False]
