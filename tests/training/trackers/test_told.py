"""Runs with trackers that fail: one warning, and the run goes on to the same bits."""

from __future__ import annotations

import sys

import pytest

from mamlcli.training.planned import Progress
from mamlcli.training.trackers.csv_files import CsvFiles
from mamlcli.training.trackers.told import tracked_run
from tests.helpers.running import assert_same_results, train_tiny
from tests.helpers.trackers import install_tracker

KEYS = ("outer.iterations=4", "validation.every=2", "validation.tasks=3")

CODE = """
from mamlcli.training.trackers.interface import Tracker
class Told(Tracker):
    def begin(self, run):
        self.file = open(run.folder / "told.txt", "a", buffering=1)
        print("begin", run.name, run.recipe, run.study, run.iteration, run.settings["outer.iterations"], file=self.file)
    def record(self, step, values):
        print("record", step, *values, file=self.file)
    def validation(self, step, values):
        print("validation", step, *values, file=self.file)
    def scores(self, curve):
        print("scores", *(int(point["step"]) for point in curve), *curve[0], file=self.file)
    def figure(self, name, path):
        print("figure", name, path.read_bytes()[1:4].decode(), file=self.file)
    def end(self, status):
        print("end", status, file=self.file)
"""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run without trackers."""
    return train_tiny(tmp_path_factory.mktemp("plain") / "run", "logistic", *KEYS).path


def trained(path, *keys):
    """Train with trackers; return the warnings."""
    warnings: list[str] = []
    train_tiny(path, "logistic", *KEYS, *keys, progress=Progress(on_warning=warnings.append))
    return warnings


def test_tracker_of_a_package_is_told_all(monkeypatch, tmp_path, plain):
    install_tracker(monkeypatch, tmp_path / "site", CODE, told="Told")
    cell = tmp_path / "depths" / "cells" / "one"
    cell.parent.mkdir(parents=True)
    (tmp_path / "depths" / "study.json").write_text("{}")
    assert trained(cell, "logging=[csv,told]") == []
    assert (cell / "trackers" / "told" / "told.txt").read_text().splitlines() == [
        "begin one logistic depths 0 4",
        "record 1 outer_loss accuracy grad_norm lr",
        "record 2 outer_loss accuracy grad_norm lr",
        "validation 2 loss accuracy",
        "record 3 outer_loss accuracy grad_norm lr",
        "record 4 outer_loss accuracy grad_norm lr",
        "validation 4 loss accuracy",
        "scores 0 1 2 3 4 5 step query_loss query_accuracy support_loss support_accuracy",
        "figure curve PNG",
        "end done",
    ]
    assert (cell / "trackers" / "csv" / "steps.csv").is_file()


@pytest.mark.parametrize("call", ["__init__", "begin", "record", "validation", "scores", "figure", "end"])
def test_tracker_that_fails_at_any_call_changes_no_run(monkeypatch, tmp_path, plain, call):
    code = f"from told_base import Told\nclass Fails(Told):\n    def {call}(self, *_): raise SystemExit('no room')\n"
    install_tracker(monkeypatch, tmp_path / "site", code, fails="Fails")
    (tmp_path / "site" / "told_base.py").write_text(CODE)
    warnings = trained(tmp_path / "run", "logging=fails")
    assert_same_results(plain, tmp_path / "run")
    [warning] = warnings
    assert warning.startswith("logging=fails is off from here on, the run goes on: SystemExit: no room.")


@pytest.mark.parametrize("call", ["begin", "record", "validation", "scores", "figure", "end"])
def test_own_tracker_that_fails_at_any_call_changes_no_run(monkeypatch, tmp_path, plain, call):
    def fail(*_):
        raise OSError("no room")

    monkeypatch.setattr(CsvFiles, call, fail)
    warnings = trained(tmp_path / "run", "logging=csv")
    assert_same_results(plain, tmp_path / "run")
    assert len(warnings) == 1
    assert warnings[0].startswith("logging=csv is off from here on, the run goes on: no room.")


def test_tracker_whose_package_is_missing_says_how_to_have_it(monkeypatch, tmp_path, plain):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    [warning] = trained(tmp_path / "run", "logging=tensorboard")
    assert warning.endswith("To have it: pip install 'mamlcli[tensorboard]'")
    assert not (tmp_path / "run" / "trackers").exists()
    assert_same_results(plain, tmp_path / "run")


def test_run_that_ends_by_an_error_tells_so(monkeypatch, tmp_path):
    def fail(record):
        raise ArithmeticError

    ends: list[str] = []
    monkeypatch.setattr(CsvFiles, "end", lambda _, status: ends.append(status))
    with pytest.raises(ArithmeticError):
        train_tiny(tmp_path / "run", "logistic", *KEYS, "logging=csv", progress=Progress(on_record=fail))
    assert ends == ["failed"]


def test_manifest_notes_the_warning_where_nobody_takes_it(monkeypatch, tmp_path):
    monkeypatch.setattr(CsvFiles, "begin", lambda *_: 1 / 0)
    run = train_tiny(tmp_path / "run", "logistic", *KEYS, "logging=csv")
    [noticed] = run.manifest.noticed
    assert noticed.startswith("logging=csv is off from here on")


def test_run_by_itself_is_of_no_study(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic")
    told = tracked_run(run, run.recipe, 0, "csv")
    assert (told.study, told.name, told.settings["inner.adapt"]) == (None, "run", None)
