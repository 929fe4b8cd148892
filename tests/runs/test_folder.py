"""The run directory: nothing in it is ever half-written, lost, or worked on twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.place import check_free
from tests.helpers.reports import curve_report

# A run does not keep the number that its recipe should reproduce.
RECIPE = load_recipe("linear-regression")[1].model_copy(update={"reference": None})


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "runs" / "a-1", RECIPE, "a")


# Making and opening ----------------------------------------------------------------------------------------


def test_new_run_holds_its_recipe_and_name(run):
    opened = RunDirectory.open(run.path)
    assert opened.recipe == RECIPE
    assert opened.name == "a"
    assert {**opened.manifest, **opened.recipe_note()} == {**opened.manifest}
    assert (opened.manifest.recipe_name, opened.manifest.status) == ("a", "created")


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


def test_path_of_data_is_kept_absolute_and_as_it_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("folder", ["tasks.path=my photos"])[1]
    made = RunDirectory.create(tmp_path / "run", recipe, "folder")
    assert made.recipe.tasks.path == str(tmp_path / "my photos")
    assert (made.manifest.typed_path, made.manifest.typed_in) == ("my photos", str(tmp_path))


def test_run_opened_by_home_or_from_within_has_its_whole_name(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.path.parent))
    assert RunDirectory.open(Path("~/a-1")).path == run.path
    monkeypatch.chdir(run.path)
    assert RunDirectory.open(Path(".")).path == run.path


# Manifest --------------------------------------------------------------------------------------------------


def test_manifest_keeps_what_is_not_changed(run):
    before = {**run.manifest}
    run.update_manifest({"status": "done", "seed": 3})
    assert {**run.manifest} == {**before, "status": "done", "seed": 3}


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


# Metrics ---------------------------------------------------------------------------------------------------


def records(*iterations, kind="step"):
    return [{"kind": kind, "iteration": iteration} for iteration in iterations]


def append(run, lines):
    for record in lines:
        run.append_metrics(record)
    run.close()


def test_metrics_are_on_disk_as_soon_as_they_are_appended(run):
    run.append_metrics({"kind": "step", "iteration": 1})
    assert list(run.read_metrics()) == records(1)
    run.close()


def test_run_without_metrics_has_none(run):
    assert list(run.read_metrics()) == []


@pytest.mark.parametrize("cut", ['{"kind": "st', '{"kind": "step", "iteration": 4', "{"])
def test_last_line_that_a_crash_cut_is_left_out(run, cut):
    append(run, records(1, 2, 3))
    with (run.path / "metrics.jsonl").open("a") as stream:
        stream.write(cut)
    assert list(run.read_metrics()) == records(1, 2, 3)
    run.rewind_metrics(3, 0)
    append(run, records(4))
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2, 3, 4]


def test_rewinding_drops_what_training_will_write_again(run):
    append(run, [*records(1, 2), *records(2, kind="validation"), *records(3, 4), *records(4, kind="validation")])
    run.rewind_metrics(3, 2)
    assert list(run.read_metrics()) == [*records(1, 2), *records(2, kind="validation"), *records(3)]


def test_rewinding_keeps_a_step_whose_validation_is_still_due(run):
    append(run, [*records(1, 2), *records(2, kind="validation")])
    run.rewind_metrics(2, 0)
    assert list(run.read_metrics()) == records(1, 2)


def test_rewinding_to_the_start_leaves_nothing(run):
    append(run, [*records(1, 2), *records(2, kind="validation")])
    run.rewind_metrics(0, 0)
    assert list(run.read_metrics()) == []


# The result ------------------------------------------------------------------------------------------------


def test_report_is_read_as_it_was_written(run):
    assert not run.has_report
    run.write_report(curve_report())
    assert run.has_report
    assert run.read_report() == curve_report()


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_report_that_cannot_be_read_is_an_error_that_says_what_to_run(run, content):
    if content is not None:
        (run.path / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=r"evaluation\.json: expected a readable result.*Run: mamlcli adapt"):
        run.read_report()


def test_scores_are_read_as_they_were_written(run):
    scores = np.arange(24.0).reshape(3, 2, 4)
    run.write_scores(scores)
    assert np.array_equal(run.read_scores(), scores)


@pytest.mark.parametrize("content", [None, "", "a text\n", "task,inner_step\n0,0\n"])
def test_damaged_scores_are_an_error_that_says_what_to_run(run, content):
    if content is not None:
        (run.path / "tasks.csv").write_text(content)
    with pytest.raises(RunError, match=r"tasks.csv: expected the scores of a run's tasks.*mamlcli adapt"):
        run.read_scores()


def test_last_record_is_read_from_the_end_of_a_long_file(run):
    append(run, records(*range(1, 5001)))
    assert (run.path / "metrics.jsonl").stat().st_size > 1 << 16
    assert run.last_record() == records(5000)[0]


def test_run_is_held_while_its_lock_is(run):
    assert run.is_held() is False
    with run.lock():
        assert run.is_held() is True
