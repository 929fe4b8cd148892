"""The study engine: cells, retries, resumption, statistics, the choice of inner learning rates."""

import csv
import json
import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from mamlcli.common.errors import Interrupted, MamlError, RecipeError, RunError
from mamlcli.common.statistics import Score
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.axes import depth_sweep
from mamlcli.studies.sweeps.cell_result import RateCandidate
from mamlcli.studies.sweeps.cells import run_cells
from mamlcli.studies.sweeps.collection import (
    FinishedCell,
    collect,
    mean_references,
    read_report,
    references_of,
    result_csv,
)
from mamlcli.studies.sweeps.folder import open_study
from mamlcli.studies.sweeps.rates import choose_inner_lr, rate_candidate, validation_metric, validation_score
from mamlcli.studies.sweeps.run import cell_job, run_sweep
from mamlcli.studies.sweeps.scores import Scores
from mamlcli.studies.sweeps.sweep import AxisValue, cells_of, check_sweep

TINY = (
    "tasks.dimension=3",
    "tasks.shots=8",
    "tasks.queries=8",
    "outer.iterations=8",
    "outer.tasks=2",
    "outer.checkpoint_every=2",
    "validation.every=4",
    "validation.tasks=5",
    "evaluation.tasks=12",
    "inner.steps=2",
    "inner.lr=0.5",
)


def tiny_sweep(*, num_seeds=2, depths=(1, 2), inner_lrs=(), overrides=()):
    _, recipe = load_recipe("linear-regression", [*TINY, *overrides])
    return depth_sweep("linear-regression", recipe, depths=depths, num_seeds=num_seeds, inner_lrs=inner_lrs)


def payloads(sweep, path):
    return {cell.name: cell_job(sweep, path, [cell], argv=[], num_threads=1).payload for cell in cells_of(sweep)}


def run_here(sweep, path, skip=()):
    """Run a study's cells in this process: the pool is tested apart, and importing torch again takes seconds."""
    open_study(path, sweep, "command")
    for name, payload in payloads(sweep, path).items():
        if name not in skip:
            run_cells(payload, lambda: False)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("studies") / "study"
    sweep = tiny_sweep()
    run_here(sweep, path)
    return sweep, path


def collected(sweep, path):
    return run_sweep(sweep, path, num_workers=1, argv=[]).result


# Cells -------------------------------------------------------------------------------------------------------


def test_every_axis_value_has_the_same_seeds_and_the_same_meta_test_tasks(study):
    sweep, path = study
    result = collected(sweep, path)
    assert [cell.seeds for cell in result.cells] == [(0, 1), (0, 1)]
    # The posterior mean depends on the tasks' support and query points alone.
    reports = [json.loads((path / "cells" / name / "evaluation.json").read_text()) for name in payloads(sweep, path)]
    references = [report["references"]["posterior mean"] for report in reports]
    assert len(references) == 4
    assert all(reference == references[0] for reference in references)


def test_done_cells_are_skipped_and_untouched(study):
    sweep, path = study
    files = [file for file in (path / "cells").rglob("*") if file.is_file()]
    before = {file: file.stat().st_mtime_ns for file in files}
    ends = []
    run_sweep(sweep, path, num_workers=2, argv=[], on_end=ends.append)
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
    outcome = run_sweep(sweep, path, num_workers=1, argv=[])
    assert not outcome.failures
    assert cut.manifest["resumed_from"]
    resumed, whole = (RunDirectory(folder / "cells" / name).read_scores() for folder in (path, uncut))
    assert np.array_equal(resumed, whole, equal_nan=True)  # accuracies of regression are NaN


def test_a_killed_worker_costs_its_own_cell_one_attempt_and_the_others_nothing(study, tmp_path):
    sweep, other = study
    path = tmp_path / "killed"
    run_here(sweep, path, skip=["depth-1-seed-1", "depth-2-seed-1"])
    starts, ends = [], []

    def kill_first(name, pid):
        starts.append(name)
        if name == "depth-1-seed-1" and starts.count(name) == 1:
            os.kill(pid, signal.SIGKILL)

    outcome = run_sweep(sweep, path, num_workers=2, argv=[], on_start=kill_first, on_end=ends.append)
    assert sorted(starts) == ["depth-1-seed-1", "depth-1-seed-1", "depth-2-seed-1"]
    assert not outcome.failures
    assert {end.status for end in ends} == {"done", "skipped"}
    without = [replace(cell, run_dirs=()) for cell in outcome.result.cells]
    uncut = collected(sweep, other).cells
    assert without == [replace(cell, run_dirs=()) for cell in uncut]


def test_a_cell_that_fails_twice_is_reported_the_rest_completes_and_a_rerun_finishes(tmp_path):
    sweep, path = tiny_sweep(num_seeds=1), tmp_path / "study"
    run_here(sweep, path, skip=["depth-2-seed-0"])

    def kill(name, pid):
        os.kill(pid, signal.SIGKILL)

    outcome = run_sweep(sweep, path, num_workers=1, argv=[], on_start=kill)
    [(label, reason)] = outcome.failures
    assert label == "depth 2, seed 0"
    assert "SIGKILL" in reason
    assert [cell.value for cell in outcome.result.cells] == [1]
    assert outcome.result.failures == ((label, reason),)
    again = run_sweep(sweep, path, num_workers=1, argv=[])
    assert not again.failures
    assert [cell.value for cell in again.result.cells] == [1, 2]


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


def test_a_cell_whose_worker_alone_gets_sigterm_goes_on_in_another_one(tmp_path):
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

    outcome = run_sweep(sweep, path, num_workers=1, argv=[], on_start=terminate_the_first)
    threads[0].join()
    assert len(set(pids)) == len(pids) == 2
    assert not outcome.failures
    assert [cell.seeds for cell in outcome.result.cells] == [(0,)]
    assert RunDirectory(path / "cells" / "depth-1-seed-0").manifest["resumed_from"]


def terminate_in_training(folder, pid):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (folder / "metrics.jsonl").is_file() and (folder / "metrics.jsonl").stat().st_size:
            os.kill(pid, signal.SIGTERM)
            return
        time.sleep(0.01)


# The study folder -----------------------------------------------------------------------------------------------


def test_another_studys_folder_is_refused_with_the_keys_that_differ(study):
    _, path = study
    other = tiny_sweep(depths=(1, 3), overrides=["inner.lr=0.25"])
    with pytest.raises(RunError, match=r"values \(\[1, 2\] there, \[1, 3\] here\).*recipe\.inner\.lr \(0\.5 there"):
        open_study(path, other, "command")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="a folder of something else"):
        open_study(tmp_path, tiny_sweep(), "command")


def test_all_values_that_the_recipe_cannot_have_are_named_at_once():
    with pytest.raises(RecipeError) as caught:
        cells_of(tiny_sweep(depths=(0, 1, -2)))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--depths 0", "--depths -2"]


def test_values_that_the_model_cannot_have_are_refused_before_anything_is_trained():
    _, recipe = load_recipe("logistic", ["model.linear_width=1"])
    values = tuple(AxisValue(n, f"{n} layers", {"model.linear_layers": n}, f"--layers {n}") for n in (0, 1, 2))
    sweep = replace(tiny_sweep(), recipe=recipe, values=values)
    with pytest.raises(MamlError, match=r"--layers 1: model\.linear_width.*>= 2") as caught:
        check_sweep(sweep)
    assert len(caught.value.problems) == 2


def test_seeds_can_be_added_and_only_the_new_cells_are_trained(study, tmp_path):
    two, _ = study
    one, path = replace(two, num_seeds=1), tmp_path / "study"
    run_here(one, path)
    assert open_study(path, two, "mamlcli ... --seeds 2")
    written = json.loads((path / "study.json").read_text())
    assert (written["seeds"], written["command"]) == ([0, 1], "mamlcli ... --seeds 2")
    started, ends = [], []
    run_sweep(two, path, num_workers=1, argv=[], on_start=lambda name, _: started.append(name), on_end=ends.append)
    assert started == ["depth-1-seed-1", "depth-2-seed-1"]
    # Fewer seeds again: the first of them, and the folder keeps all.
    assert open_study(path, one, "fewer")
    assert json.loads((path / "study.json").read_text()) == written
    assert [cell.seeds for cell in collected(one, path).cells] == [(0,), (0,)]


def test_other_seeds_than_the_folders_first_are_refused(study):
    _, path = study
    with pytest.raises(RunError, match=r"recipe\.seed \(0 there, 5 here\)"):
        open_study(path, tiny_sweep(overrides=["seed=5"]), "command")


def test_an_error_log_goes_once_the_cell_is_done(study, tmp_path):
    sweep, path = replace(study[0], values=study[0].values[:1], num_seeds=1, pairs=()), tmp_path / "study"
    run_here(sweep, path)
    folder = path / "cells" / "depth-1-seed-0"
    (folder / "evaluation.json").write_text("{")  # to be written again
    (folder / "error.log").write_text("Traceback")
    run_sweep(sweep, path, num_workers=1, argv=[])
    assert not (folder / "error.log").exists()


# Statistics -----------------------------------------------------------------------------------------------------


def test_means_and_intervals_over_seeds_match_a_hand_computation(study):
    sweep, path = study
    result = collected(sweep, path)
    for cell in result.cells:
        runs = [path / "cells" / f"depth-{cell.value}-seed-{seed}" for seed in (0, 1)]
        for step, point in enumerate(cell.curve):
            # Column 2 of tasks.csv is the query loss; a seed's number is its mean over tasks.
            a, b = (RunDirectory(run).read_scores()[:, step, 2].mean() for run in runs)
            assert point.scores.mean("loss") == pytest.approx((a + b) / 2, rel=1e-7)
            # Two values: s / sqrt(2) = |a - b| / 2, and t_{0.975, 1} = 12.7062 (any table).
            assert point.scores.half_width("loss") == pytest.approx(12.7062 * abs(a - b) / 2, rel=1e-4)
        assert cell.final == cell.curve[-1].scores


def test_comparisons_are_paired_by_seed(study):
    sweep, path = study
    [comparison] = collected(sweep, path).comparisons
    final = {
        (depth, seed): json.loads((path / "cells" / f"depth-{depth}-seed-{seed}" / "evaluation.json").read_text())[
            "final"
        ]["loss"]["mean"]
        for depth in (1, 2)
        for seed in (0, 1)
    }
    a, b = (final[2, seed] - final[1, seed] for seed in (0, 1))
    assert (comparison.a, comparison.b, comparison.metric) == (2, 1, "loss")
    assert comparison.difference.mean == pytest.approx((a + b) / 2)
    assert comparison.difference.ci95 == pytest.approx(12.7062 * abs(a - b) / 2, rel=1e-5)


def test_with_one_seed_intervals_and_pairs_are_over_tasks_and_say_so(study):
    sweep, path = study
    one = replace(sweep, num_seeds=1)
    result = run_sweep(one, path, num_workers=1, argv=[]).result
    scores = [RunDirectory(path / "cells" / f"depth-{depth}-seed-0").read_scores()[:, -1, 2] for depth in (2, 1)]
    differences = scores[0] - scores[1]
    # 12 tasks: t_{0.975, 11} = 2.200985.
    expected = 2.200985 * differences.std(ddof=1) / np.sqrt(12)
    [comparison] = result.comparisons
    assert comparison.difference.mean == pytest.approx(differences.mean())
    assert comparison.difference.ci95 == pytest.approx(expected, rel=1e-5)
    assert comparison.over == result.cells[0].final.over == "tasks"
    assert set(result.to_json()["cells"][0]["loss"]) == {"mean", "ci95_over_tasks"}


def test_csv_has_one_line_for_each_value_with_the_same_numbers(study):
    sweep, path = study
    result = collected(sweep, path)
    rows = list(csv.DictReader(result_csv(result).splitlines()))
    assert [row["value"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss_mean"]) == result.cells[1].final.mean("loss")
    assert float(rows[1]["loss_ci95_over_seeds"]) == result.cells[1].final.half_width("loss")


def test_references_that_differ_between_seeds_have_one_value_of_each_seed():
    references = [{"floor": Scores({"loss": Score(mean, 0.1)}, "tasks")} for mean in (1.0, 3.0)]
    # Two values: s / sqrt(2) = 1, times t_{0.975, 1} = 12.7062.
    floor = mean_references(references)["floor"]
    assert floor.over == "seeds"
    assert (floor.mean("loss"), floor.half_width("loss")) == (2.0, pytest.approx(12.7062, rel=1e-5))
    assert mean_references(references[:1]) == references[0]


def test_references_count_every_seed_once_whatever_the_axis_values(study):
    sweep, path = study
    cells = [{seed: RunDirectory(path / "cells" / f"depth-{d}-seed-{seed}") for seed in (0, 1)} for d in (1, 2)]
    found = collect([FinishedCell(i, 0.5, runs) for i, runs in enumerate(cells)], sweep.pairs, num_seeds=2)
    of_each_seed = [references_of(read_report(run)) for run in cells[0].values()]
    assert found.references == mean_references(of_each_seed)


# The inner learning rate ------------------------------------------------------------------------------------------


def fake_run(folder, scores, key="accuracy"):
    folder.mkdir(parents=True)
    records = [
        {"kind": "validation", "iteration": i, "loss": 1.0, "accuracy": None, key: score}
        for i, score in enumerate(scores)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_inner_lr_is_chosen_by_the_best_mean_meta_validation_and_nothing_else(tmp_path):
    sweep = tiny_sweep(depths=(1,), inner_lrs=(0.1, 0.2, 0.4))
    # No evaluation.json is there to be read. Best of each run: 0.1: 0.5 and 0.5; 0.2: 0.6 and 0.8; 0.4: 0.9, 0.4.
    scores = {0.1: ([0.5, 0.2], [0.5]), 0.2: ([0.1, 0.6], [0.8]), 0.4: ([0.9], [0.4, 0.3])}
    for rate, runs in scores.items():
        for seed, values in enumerate(runs):
            fake_run(tmp_path / "cells" / f"depth-1-lr{rate:g}-seed-{seed}", values)
    candidates = [
        rate_candidate(
            rate,
            [RunDirectory(tmp_path / "cells" / f"depth-1-lr{rate:g}-seed-{seed}") for seed in (0, 1)],
            metric="accuracy",
            failed=(),
            diverged=(),
        )
        for rate in sweep.inner_lrs
    ]
    assert [candidate.validation_score for candidate in candidates] == pytest.approx([0.5, 0.7, 0.65])
    assert choose_inner_lr(candidates) == 0.2


def test_regression_is_chosen_by_the_lowest_loss(tmp_path):
    fake_run(tmp_path / "run", [0.8, 0.3, 0.5], key="loss")
    assert validation_metric(tiny_sweep().recipe) == "loss"
    assert validation_score(RunDirectory(tmp_path / "run"), "loss") == -0.3


def test_classification_is_chosen_by_accuracy_unless_the_recipe_says_loss(tmp_path):
    recipes = [load_recipe("logistic", words)[1] for words in ([], ["validation.metric=loss"])]
    assert [validation_metric(recipe) for recipe in recipes] == ["accuracy", "loss"]
    fake_run(tmp_path / "run", [0.4, 0.7])
    run = RunDirectory(tmp_path / "run")
    assert [validation_score(run, metric) for metric in ("accuracy", "loss")] == [0.7, -1.0]


def test_of_equal_rates_the_smaller_is_chosen_and_a_diverged_one_never():
    candidates = [
        RateCandidate(0.4, "done", 0.7),
        RateCandidate(0.1, "done", 0.7),
        RateCandidate(0.9, "diverged", None),
    ]
    assert choose_inner_lr(candidates) == 0.1
    assert choose_inner_lr(candidates[2:]) is None


def test_only_chosen_rates_enter_the_result_and_a_diverged_candidate_is_no_failure(tmp_path):
    path = tmp_path / "study"
    sweep = tiny_sweep(num_seeds=1, depths=(1,), inner_lrs=(0.01, 0.5, 1e30))
    run_here(sweep, path, skip=["depth-1-lr1e+30-seed-0"])
    ends = []
    outcome = run_sweep(sweep, path, num_workers=1, argv=[], on_end=ends.append)
    [cell] = outcome.result.cells
    assert not outcome.failures
    assert ends[-1].status == "diverged"
    assert [candidate.status for candidate in cell.candidates] == ["done", "done", "diverged"]
    best = max(cell.candidates[:2], key=lambda candidate: candidate.validation_score)
    assert cell.inner_lr == best.inner_lr
    assert cell.run_dirs == (str(path / "cells" / f"depth-1-lr{cell.inner_lr:g}-seed-0"),)


def test_choosing_rates_needs_meta_validation():
    with pytest.raises(MamlError, match=r"--inner-lrs.*validation\.every=null"):
        check_sweep(tiny_sweep(inner_lrs=(0.1, 0.2), overrides=["validation.every=null"]))
