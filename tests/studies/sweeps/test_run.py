"""A study run to its end: skipped, cut, killed and failed cells, and seeds added later."""

import json
import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from mamlcli.common.errors import Interrupted
from mamlcli.common.processes.pool import LocalExecutor
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.cells import run_cells
from mamlcli.studies.sweeps.folder import open_study
from mamlcli.studies.sweeps.run import cell_groups, cell_job, run_sweep
from mamlcli.studies.sweeps.sweep import cells_of
from tests.helpers.studies import collected, payloads, run_here, small_sweep, tiny_sweep
from tests.helpers.together import TOLERANCE, assert_equal_up_to_rounding


def test_a_study_with_shared_jobs_has_the_results_of_one_without(tmp_path):
    sweep = small_sweep(3)
    cells = cells_of(sweep)
    assert [len(group) for group in cell_groups(cells, cells)] == [3, 3]
    for way in ("together", "alone"):
        open_study(tmp_path / way, sweep, "command")
    started, ends = [], []
    outcome = run_sweep(
        sweep,
        tmp_path / "together",
        executor=LocalExecutor(1),
        argv=["mamlcli"],
        on_start=lambda name, _: started.append(name),
        on_end=ends.append,
    )
    assert not outcome.failures
    assert set(started) == {cell.name for cell in cells_of(sweep)}
    assert [(end.status, end.num_ended) for end in ends] == [("done", number) for number in range(1, 7)]
    for cell in cells_of(sweep):
        run_cells(cell_job(sweep, tmp_path / "alone", [cell], argv=[], num_threads=1).payload, lambda: False)
        assert_equal_up_to_rounding(*(tmp_path / way / "cells" / cell.name for way in ("together", "alone")))
    other = run_sweep(sweep, tmp_path / "alone", executor=LocalExecutor(1), argv=[])
    means = [[cell.final.mean("loss") for cell in found.cells] for found in (outcome, other)]
    assert np.allclose(*means, rtol=TOLERANCE, atol=0)


def test_done_cells_are_skipped_and_untouched(study):
    sweep, path = study
    files = [file for file in (path / "cells").rglob("*") if file.is_file()]
    before = {file: file.stat().st_mtime_ns for file in files}
    ends = []
    run_sweep(sweep, path, executor=LocalExecutor(2), argv=[], on_end=ends.append)
    assert [end.status for end in ends] == ["skipped"] * 4
    assert {file: file.stat().st_mtime_ns for file in files} == before


def test_a_cut_cell_is_resumed_and_equals_an_uncut_one(study, tmp_path):
    sweep, uncut = study
    path = tmp_path / "cut"
    name = "depth-2-seed-1"
    run_here(sweep, path, skip=[name])
    answers = iter([False, False, False, True])
    with pytest.raises(Interrupted):
        run_cells(payloads(sweep, path)[name], lambda: next(answers))
    cut = RunDirectory.open(path / "cells" / name)
    assert cut.manifest["status"] == "interrupted"
    assert 0 < cut.manifest["iterations_done"] < 8
    outcome = run_sweep(sweep, path, executor=LocalExecutor(1), argv=[])
    assert not outcome.failures
    assert cut.manifest["resumed_from"]
    resumed, whole = (RunDirectory(folder / "cells" / name).read_scores() for folder in (path, uncut))
    assert np.array_equal(resumed, whole, equal_nan=True)  # accuracies of regression are NaN


def test_a_killed_process_costs_its_own_cell_one_attempt_and_the_others_nothing(study, tmp_path):
    sweep, other = study
    path = tmp_path / "killed"
    run_here(sweep, path, skip=["depth-1-seed-1", "depth-2-seed-1"])
    starts, ends = [], []

    def kill_first(name, pid):
        starts.append(name)
        if name == "depth-1-seed-1" and starts.count(name) == 1:
            os.kill(pid, signal.SIGKILL)

    outcome = run_sweep(sweep, path, executor=LocalExecutor(2), argv=[], on_start=kill_first, on_end=ends.append)
    assert sorted(starts) == ["depth-1-seed-1", "depth-1-seed-1", "depth-2-seed-1"]
    assert not outcome.failures
    assert {end.status for end in ends} == {"done", "skipped"}
    without = [replace(cell, run_dirs=()) for cell in outcome.cells]
    uncut = collected(sweep, other).cells
    assert without == [replace(cell, run_dirs=()) for cell in uncut]


def test_a_cell_that_fails_twice_is_reported_the_rest_completes_and_a_rerun_finishes(tmp_path):
    sweep, path = tiny_sweep(num_seeds=1), tmp_path / "study"
    run_here(sweep, path, skip=["depth-2-seed-0"])

    def kill(name, pid):
        os.kill(pid, signal.SIGKILL)

    outcome = run_sweep(sweep, path, executor=LocalExecutor(1), argv=[], on_start=kill)
    [(label, reason)] = outcome.failures
    assert label == "depth 2, seed 0"
    assert "SIGKILL" in reason
    assert [cell.value for cell in outcome.cells] == [1]
    assert outcome.failures == ((label, reason),)
    again = run_sweep(sweep, path, executor=LocalExecutor(1), argv=[])
    assert not again.failures
    assert [cell.value for cell in again.cells] == [1, 2]


def test_a_cell_whose_process_alone_gets_sigterm_goes_on_in_another(tmp_path):
    # Iterations enough to be at work when the signal comes.
    sweep = tiny_sweep(num_seeds=1, depths=(1,), overrides=["outer.iterations=400", "validation.every=100"])
    path = tmp_path / "study"
    open_study(path, sweep, "command")
    pids, threads = [], []

    def terminate_the_first(name, pid):
        pids.append(pid)
        if len(pids) == 1:
            threads.append(threading.Thread(target=terminate_in_training, args=(path / "cells" / name, pid)))
            threads[0].start()

    outcome = run_sweep(sweep, path, executor=LocalExecutor(1), argv=[], on_start=terminate_the_first)
    threads[0].join()
    assert len(set(pids)) == len(pids) == 2
    assert not outcome.failures
    assert [cell.seeds for cell in outcome.cells] == [(0,)]
    assert RunDirectory(path / "cells" / "depth-1-seed-0").manifest["resumed_from"]


def terminate_in_training(folder, pid):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (folder / "metrics.jsonl").is_file() and (folder / "metrics.jsonl").stat().st_size:
            os.kill(pid, signal.SIGTERM)
            return
        time.sleep(0.01)


def test_seeds_can_be_added_and_only_the_new_cells_are_trained(study, tmp_path):
    two, _ = study
    one, path = replace(two, num_seeds=1), tmp_path / "study"
    run_here(one, path)
    assert open_study(path, two, "mamlcli ... --seeds 2")
    written = json.loads((path / "study.json").read_text())
    assert (written["seeds"], written["command"]) == ([0, 1], "mamlcli ... --seeds 2")
    started, ends = [], []
    run_sweep(
        two, path, executor=LocalExecutor(1), argv=[], on_start=lambda name, _: started.append(name), on_end=ends.append
    )
    assert started == ["depth-1-seed-1", "depth-2-seed-1"]
    # Fewer seeds again: the first of them, and the folder keeps all.
    assert open_study(path, one, "fewer")
    assert json.loads((path / "study.json").read_text()) == written
    assert [cell.seeds for cell in collected(one, path).cells] == [(0,), (0,)]


def test_an_error_log_goes_once_the_cell_is_done(study, tmp_path):
    sweep, path = replace(study[0], values=study[0].values[:1], num_seeds=1, pairs=()), tmp_path / "study"
    run_here(sweep, path)
    folder = path / "cells" / "depth-1-seed-0"
    (folder / "evaluation.json").write_text("{")  # to be written again
    (folder / "error.log").write_text("Traceback")
    run_sweep(sweep, path, executor=LocalExecutor(1), argv=[])
    assert not (folder / "error.log").exists()


def test_only_chosen_rates_enter_the_result_and_a_diverged_candidate_is_no_failure(tmp_path):
    path = tmp_path / "study"
    sweep = tiny_sweep(num_seeds=1, depths=(1,), inner_lrs=(0.01, 0.5, 1e30))
    run_here(sweep, path, skip=["depth-1-lr1e+30-seed-0"])
    ends = []
    outcome = run_sweep(sweep, path, executor=LocalExecutor(1), argv=[], on_end=ends.append)
    [cell] = outcome.cells
    assert not outcome.failures
    assert ends[-1].status == "diverged"
    assert [candidate.status for candidate in cell.candidates] == ["done", "done", "diverged"]
    best = max(cell.candidates[:2], key=lambda candidate: candidate.validation_score)
    assert cell.inner_lr == best.inner_lr
    assert cell.run_dirs == (str(path / "cells" / f"depth-1-lr{cell.inner_lr:g}-seed-0"),)


def test_cells_that_are_not_wanted_are_not_trained_but_collected(study, tmp_path):
    sweep, path = study[0], tmp_path / "study"
    run_here(sweep, path, skip=["depth-2-seed-1", "depth-1-seed-1"])
    ends = []
    outcome = run_sweep(
        sweep, path, executor=LocalExecutor(1), argv=[], is_wanted=lambda cell: False, on_end=ends.append
    )
    assert ends == []
    assert [cell.seeds for cell in outcome.cells] == [(0,), (0,)]
    late = run_sweep(sweep, path, executor=LocalExecutor(1), argv=[], deadline=time.monotonic() - 1, on_end=ends.append)
    assert [end.status for end in ends] == ["skipped"] * 2
    assert (late.cells, late.failures) == (outcome.cells, ())


def test_a_changed_evaluation_is_left_out_and_named(study, tmp_path):
    sweep, path = replace(study[0], values=study[0].values[:1], pairs=()), tmp_path / "study"
    run_here(sweep, path)
    file = path / "cells" / "depth-1-seed-1" / "evaluation.json"
    report = json.loads(file.read_text())
    report["final"]["loss"]["mean"] *= 1.01
    file.write_text(json.dumps(report))
    outcome = collected(sweep, path)
    [(label, reason)] = outcome.failures
    assert label == "depth 1, seed 1"
    assert "mean loss of tasks.csv" in reason
    assert "mamlcli adapt" in reason
    assert [cell.seeds for cell in outcome.cells] == [(0,)]


def test_which_seeds_are_together_depends_on_the_study_and_not_on_what_is_missing():
    cells = cells_of(small_sweep(5))
    groups = [[cell.name for cell in group] for group in cell_groups(cells, cells)]
    assert [len(group) for group in groups] == [3, 3, 2, 2]
    missing = [cell for cell in cells if cell.name not in (groups[0][0], *groups[1])]
    found = [[cell.name for cell in group] for group in cell_groups(cells, missing)]
    assert sorted(found) == sorted([groups[0][1:], *groups[2:]])
