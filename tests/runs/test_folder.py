"""The run directory: nothing in it is ever half-written, lost, or worked on twice."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory, check_free, remove_run
from mamlcli.runs.search import newest_run_path, next_run_path

RECIPE = load_recipe("linear-regression")[1]


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "runs" / "a-1", RECIPE, "a")


# Making and opening ----------------------------------------------------------------------------------------


def test_new_run_holds_its_recipe_and_name(run):
    opened = RunDirectory.open(run.path)
    assert opened.recipe == RECIPE
    assert opened.name == "a"
    assert opened.manifest == {"recipe_name": "a", "status": "created"}


def test_run_can_be_made_in_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert RunDirectory.create(tmp_path / "empty", RECIPE, "a").recipe == RECIPE


def test_run_is_not_made_where_something_is(run, tmp_path):
    with pytest.raises(RunError, match=r"a folder with files in it\. Add --resume"):
        RunDirectory.create(run.path, RECIPE, "a")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="got a file"):
        check_free(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_place_that_does_not_exist_is_free(tmp_path):
    check_free(tmp_path / "new" / "deeper")
    assert not (tmp_path / "new").exists()


def test_run_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="a folder that can be written"):
        RunDirectory.create(tmp_path / "file" / "run", RECIPE, "a")


def test_only_a_run_directory_is_opened(tmp_path):
    with pytest.raises(RunError, match="got no such folder"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"without recipe\.yaml and manifest\.json"):
        RunDirectory.open(tmp_path)


def test_only_a_run_directory_is_removed(run, tmp_path):
    remove_run(tmp_path / "nothing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="expected a run directory"):
        remove_run(tmp_path / "mine")
    with pytest.raises(RunError, match="got a file"):
        remove_run(tmp_path / "mine" / "thesis.txt")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
    remove_run(run.path)
    assert not run.path.exists()


def test_runs_are_numbered_one_above_the_highest(tmp_path):
    assert next_run_path(tmp_path / "runs", "a") == tmp_path / "runs" / "a-1"
    assert newest_run_path(tmp_path / "runs", "a") is None
    for name in ("a-1", "a-3", "a-10", "a-x", "a-b-99", "ab-77"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert next_run_path(tmp_path / "runs", "a").name == "a-11"
    assert newest_run_path(tmp_path / "runs", "a").name == "a-10"


# Manifest --------------------------------------------------------------------------------------------------


def test_manifest_keeps_what_is_not_changed(run):
    run.update_manifest({"status": "done", "seed": 3})
    assert run.manifest == {"recipe_name": "a", "status": "done", "seed": 3}


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"a": '])
def test_damaged_manifest_is_refused(run, content):
    (run.path / "manifest.json").write_text(content)
    with pytest.raises(RunError, match="expected a readable manifest"):
        _ = run.manifest


def test_files_are_replaced_whole_and_leave_nothing_behind(run, monkeypatch):
    before = (run.path / "manifest.json").read_text()

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        run.update_manifest({"status": "done"})
    assert (run.path / "manifest.json").read_text() == before
    assert not list(run.path.glob(".*"))


# Recipes ---------------------------------------------------------------------------------------------------


def test_recipe_of_the_run_is_accepted(run):
    assert run.check_recipe(load_recipe("linear-regression")[1]) is None


def test_keys_that_differ_are_listed_with_both_values(run):
    other = load_recipe("linear-regression", ["seed=7", "execution.chunk=3"])[1]
    with pytest.raises(RunError) as caught:
        run.check_recipe(other)
    assert "seed (0 there, 7 here)" in str(caught.value)
    assert "execution.chunk (None there, 3 here)" in str(caught.value)
    assert "outer.lr" not in str(caught.value)
    assert f"--run-dir {run.path}" in str(caught.value)


# Checkpoints -----------------------------------------------------------------------------------------------


# Lock ------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from mamlcli.rundir import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_run_that_another_process_holds_is_refused_until_that_process_is_gone(run):
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="no other process works on, got one in use"), run.lock():
            pass
        other.kill()  # however it ends, the lock goes with it
    with run.lock():
        assert (run.path / "lock").is_file()


FLOCK = """
import fcntl, sys
with open(sys.argv[1], "w") as stream:
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="earlier versions locked nothing on Windows")
def test_run_that_an_earlier_version_works_on_is_held(run):
    command = [sys.executable, "-c", FLOCK, str(run.path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert run.is_held() is True
        with pytest.raises(RunError, match="one in use"), run.lock():
            pass
        other.kill()
    assert run.is_held() is False


def test_asking_whether_a_run_is_held_neither_takes_nor_frees_it(run):
    assert run.is_held() is False
    assert not (run.path / "lock").exists()
    with run.lock():
        assert run.is_held() is True
        assert run.is_held() is True
    assert (run.path / "lock").is_file()
    assert run.is_held() is False
    with run.lock():
        pass


def test_run_whose_lock_may_not_be_opened_is_not_said_to_be_free(run, monkeypatch):
    (run.path / "lock").touch()

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", denied)
    assert run.is_held() is None
    with pytest.raises(RunError, match="expected a file that can be locked, got Permission denied"), run.lock():
        pass


# Metrics ---------------------------------------------------------------------------------------------------


def records(*iterations, kind="step"):
    return [{"kind": kind, "iteration": iteration} for iteration in iterations]


def append(run, found):
    for record in found:
        run.append_metrics(record)
    run.close()


def test_metrics_are_on_disk_as_soon_as_they_are_appended(run):
    run.append_metrics({"kind": "step", "iteration": 1})
    assert run.read_metrics() == records(1)
    run.close()


def test_run_without_metrics_has_none(run):
    assert run.read_metrics() == []


@pytest.mark.parametrize("cut", ['{"kind": "st', '{"kind": "step", "iteration": 4', "{"])
def test_last_line_that_a_crash_cut_is_left_out(run, cut):
    append(run, records(1, 2, 3))
    with (run.path / "metrics.jsonl").open("a") as stream:
        stream.write(cut)
    assert run.read_metrics() == records(1, 2, 3)
    run.rewind_metrics(3, 0)
    append(run, records(4))
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2, 3, 4]


def test_rewinding_drops_what_training_will_write_again(run):
    append(run, [*records(1, 2), *records(2, kind="validation"), *records(3, 4), *records(4, kind="validation")])
    run.rewind_metrics(3, 2)
    assert run.read_metrics() == [*records(1, 2), *records(2, kind="validation"), *records(3)]


def test_rewinding_keeps_a_step_whose_validation_is_still_due(run):
    append(run, [*records(1, 2), *records(2, kind="validation")])
    run.rewind_metrics(2, 0)
    assert run.read_metrics() == records(1, 2)


def test_rewinding_to_the_start_leaves_nothing(run):
    append(run, [*records(1, 2), *records(2, kind="validation")])
    run.rewind_metrics(0, 0)
    assert run.read_metrics() == []
