"""Progress of a run on stderr: lines off a terminal, a bar on one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mamlcli.cli.progress import ProgressDisplay, TrainingProgress
from mamlcli.engine.outer_loop import StepRecord, StopRecord, ValidationRecord
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.manifest import Manifest
from tests.helpers.terminal import shown_on_terminal

RECIPE = load_recipe("glyphs-5way-1shot", ("outer.iterations=20",))[1]


def step(iteration, loss=1.0, accuracy=None):
    return StepRecord(iteration, loss, accuracy, grad_norm=1.0, lr=1e-3)


def test_off_a_terminal_ten_lines_tell_of_a_whole_training(capsys):
    with TrainingProgress(20, 0) as progress:
        for iteration in range(1, 21):
            progress.show(step(iteration, accuracy=0.5))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"iteration {2 * index}/20" for index in range(1, 11)]
    assert all("loss 1.000 accuracy 50.0 %" in line for line in lines)


def test_the_loss_that_is_shown_is_a_running_mean(capsys):
    with TrainingProgress(2, 0) as progress:
        progress.show(step(1, loss=1.0))
        progress.show(step(2, loss=2.0))
    # 0.95 * 1 + 0.05 * 2
    assert "iteration 2/2: loss 1.050," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            ValidationRecord(5, 0.25, 0.9, is_best=True),
            "iteration 5: meta-validation loss 0.250 accuracy 90.0 %, best so",
        ),
        (ValidationRecord(5, 0.25, None, is_best=False), "iteration 5: meta-validation loss 0.250\n"),
        (StopRecord(7, 3), "iteration 7: stopped early, no new best in 3 validations"),
    ],
)
def test_validations_and_an_early_stop_are_lines_of_their_own(capsys, record, line):
    with TrainingProgress(20, 0) as progress:
        progress.show(record)
    assert line in capsys.readouterr().err


def run_with(workers):
    manifest = Manifest({"device": "cpu", "execution": {"workers": workers}, "num_parameters": 28485})
    return SimpleNamespace(name="glyphs", path=Path("runs/glyphs-1"), manifest=manifest, is_held=lambda: True)


def test_the_start_of_a_run_says_where_it_runs_and_how_large_it_is(capsys):
    with ProgressDisplay(RECIPE, False) as display:
        display.callbacks().on_start(None, run_with(1), 0)
    assert capsys.readouterr().err == "glyphs on cpu: 28,485 parameters, run in runs/glyphs-1\n"


@pytest.mark.parametrize(("iteration", "words"), [(5, "from iteration 5"), (0, "from the start: the run has no check")])
def test_a_run_that_goes_on_says_from_where_and_with_how_many_workers(capsys, iteration, words):
    with ProgressDisplay(RECIPE, True) as display:
        display.callbacks().on_start(None, run_with(2), iteration)
    shown = capsys.readouterr().err
    assert "glyphs on cpu, 2 workers:" in shown
    assert f"resuming {words}" in shown


def test_the_evaluation_names_tasks_and_split(capsys):
    with ProgressDisplay(RECIPE, False) as display:
        told = display.callbacks()
        told.on_start(None, run_with(1), 0)
        told.on_record(step(20))
        told.on_evaluation(600)
    assert capsys.readouterr().err.splitlines()[-1] == "adapting to 600 test tasks"


def test_on_a_terminal_a_bar_counts_meta_iterations(tmp_path):
    code = (
        "from mamlcli.cli.progress import TrainingProgress; from tests.cli.test_progress import step\n"
        "with TrainingProgress(2, 0) as progress: progress.show(step(1)); progress.show(step(2))"
    )
    shown = shown_on_terminal([sys.executable, "-c", code], tmp_path)
    assert "meta-training" in shown
    assert "2/2" in shown
    assert "iteration 2/2" not in shown


def test_what_to_know_of_own_images_is_said_at_the_start(capsys):
    run = run_with(1)
    data = {"class_split": {"train": ["a"], "validation": [], "test": []}, "left_out": {"b": 1}, "skipped": []}
    run.manifest = Manifest({**run.manifest, "data": {**data, "num_images": 7, "num_classes": 2}})
    with ProgressDisplay(RECIPE, False) as display:
        display.callbacks().on_start(None, run, 0)
    assert "left out, too few images for a task: b (1)" in capsys.readouterr().err
