"""Runs in work: whatever ends one of them, its lock is free again and its manifest says how it ended."""

from __future__ import annotations

import os

import pytest

from mamlcli.common.errors import Interrupted, RunError, TakenError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.ongoing import OngoingRuns, opened
from mamlcli.training.planned import PlannedRun, Progress
from tests.helpers.running import TINY, assert_same_results, stop_at, train_tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def planned(path, *overrides, progress=Progress()):  # noqa: B008
    """A run of a recipe that is not yet in work."""
    name, recipe = load_recipe("linear-regression", (*TINY, *overrides))
    directory = RunDirectory.create(path, recipe, name)
    return PlannedRun(directory, build(recipe, splits=splits_of_training(recipe)), ["mamlcli"], progress)


# The manifest ------------------------------------------------------------------------------------------------------


def test_run_in_work_is_locked_and_says_so_and_is_done_at_its_end(tmp_path):
    plan = planned(tmp_path / "run")
    with opened(plan) as run:
        assert plan.directory.manifest["status"] == "running"
        assert plan.directory.is_held()
        run.state.iteration = 2
    assert (plan.directory.manifest["status"], plan.directory.manifest["iterations_done"]) == ("done", 2)
    assert not plan.directory.is_held()


def test_run_in_use_is_left_as_it_is(tmp_path):
    plan = planned(tmp_path / "run")
    in_use = pytest.raises(RunError, match="expected a run that no other process works on")
    with plan.directory.lock(), in_use, opened(plan):
        raise AssertionError("never reached")
    assert plan.directory.manifest["status"] == "created"


def test_run_whose_event_files_cannot_be_made_goes_on_with_one_warning(tmp_path):
    warnings = []
    plan = planned(tmp_path / "run", "logging=tensorboard", progress=Progress(on_warning=warnings.append))
    (tmp_path / "run" / "tensorboard").write_text("a file in the way")
    with opened(plan) as run:
        run.state.iteration = 2
    assert plan.directory.manifest["status"] == "done"
    [warning] = warnings
    assert warning.startswith("logging=tensorboard is off from here on, the run goes on: ")


def test_run_that_is_interrupted_while_it_is_announced_says_so(tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    plan = planned(tmp_path / "run", progress=Progress(on_start=interrupt))
    with pytest.raises(KeyboardInterrupt), opened(plan):
        raise AssertionError("never reached")
    assert plan.directory.manifest["status"] == "interrupted"
    assert not plan.directory.is_held()


# Several runs ------------------------------------------------------------------------------------------------------


def test_run_that_cannot_be_opened_ends_by_its_error_and_the_others_are_in_work(tmp_path):
    plans = [planned(tmp_path / name) for name in "ab"]
    ongoing = OngoingRuns(2)
    with plans[0].directory.lock():
        ongoing.start_all(plans, num_workers=1)
    assert isinstance(ongoing.ends[0], RunError)
    assert list(ongoing.runs) == list(ongoing.states) == [1]
    ongoing.end_all(KeyboardInterrupt())
    assert [type(end) for end in ongoing.ends] == [TakenError, KeyboardInterrupt]
    assert [plan.directory.manifest["status"] for plan in plans] == ["created", "interrupted"]


def test_error_ends_the_run_it_belongs_to_alone(tmp_path):
    plans = [planned(tmp_path / name) for name in "ab"]
    ongoing = OngoingRuns(2)
    ongoing.start_all(plans, num_workers=1)
    with ongoing.run(0):
        raise OSError("disk full")
    assert str(ongoing.ends[0]) == "disk full"
    assert [plan.directory.manifest["status"] for plan in plans] == ["failed", "running"]
    ongoing.end_all(KeyboardInterrupt())
    assert not any(plan.directory.is_held() for plan in plans)


# Metrics of a run that goes on ------------------------------------------------------------------------------------

WORDS = ("outer.iterations=8", "outer.checkpoint_every=2")


@pytest.fixture
def cut(tmp_path, one_thread):
    """A run that was interrupted after five of eight meta-iterations."""
    with pytest.raises(Interrupted):
        train_tiny(tmp_path / "run", "linear-regression", *WORDS, progress=stop_at(5))
    return tmp_path / "run"


def test_lines_lost_before_the_checkpoint_are_noted_and_said(cut, cli):
    lines = (cut / "metrics.jsonl").read_text().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_text("".join([*lines[:1], *lines[3:]]))
    resumed = cli("train", "--resume", "--run-dir", cut)
    assert resumed.code == 0, resumed.err
    assert "the records of 2 steps are missing (iteration 2 to 3)" in " ".join(resumed.err.split())


def test_torn_last_line_is_mended_without_a_word(cut, cli, tmp_path):
    uncut = train_tiny(tmp_path / "uncut", "linear-regression", *WORDS)
    with (cut / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "step", "iterati')
    resumed = cli("train", "--resume", "--run-dir", cut)
    assert resumed.code == 0, resumed.err
    assert "metrics.jsonl" not in resumed.err
    assert_same_results(uncut.path, cut)


def test_metrics_are_on_the_disk_before_the_checkpoint_that_follows_them(tmp_path, monkeypatch, one_thread):
    order, sync, replace = [], os.fsync, os.replace

    def noted_sync(handle):
        order.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    def noted_replace(source, target):
        order.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr("os.fsync", noted_sync)
    monkeypatch.setattr("os.replace", noted_replace)
    train_tiny(tmp_path / "run", "linear-regression", *WORDS, "validation={every: 3, tasks: 3}")
    saves = [index for index, name in enumerate(order) if name in ("last.safetensors", "best.safetensors")]
    assert len(saves) >= 5
    starts = [0, *saves]
    assert all("metrics.jsonl" in order[start:save] for start, save in zip(starts, saves, strict=False))
