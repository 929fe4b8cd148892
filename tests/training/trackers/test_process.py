"""Trackers in processes of their own: what they do to themselves, and how long they are waited for."""

from __future__ import annotations

import subprocess
import time

import pytest

from mamlcli.training.trackers import process
from mamlcli.training.trackers.process import Patience, ProcessTracker, TrackerError
from tests.helpers.trackers import install_tracker, tracked

CODE = """
import os, sys, time
from mamlcli.training.trackers.interface import Tracker
class Lines(Tracker):
    def begin(self, run):
        print("not for the user")
        self.file = open(run.folder / "lines.txt", "a")
    def record(self, step, values):
        print(step, values, file=self.file)
    def end(self, status):
        print(status, file=self.file, flush=True)
class Dies(Tracker):
    def begin(self, run):
        print("the last words", file=sys.stderr, flush=True)
        os._exit(9)
class Waits(Tracker):
    def begin(self, run):
        time.sleep(600)
class Raises(Tracker):
    def end(self, status):
        raise OSError("the server is away")
"""


@pytest.fixture
def begun(monkeypatch, tmp_path):
    """Begin a tracker of a package for a run."""
    install_tracker(monkeypatch, tmp_path / "site", CODE, lines="Lines", dies="Dies", waits="Waits", out="Raises")

    def begin(name):
        tracker = ProcessTracker(name)
        tracker.begin(tracked(tmp_path / "run", name))
        return tracker

    return begin


def test_calls_are_made_in_order_and_all_are_when_the_end_returns(begun, tmp_path, capfd):
    tracker = begun("lines")
    for step in range(200):
        tracker.record(step, {"lr": 0.5})
    tracker.end("done")
    lines = (tmp_path / "run" / "trackers" / "lines" / "lines.txt").read_text().splitlines()
    assert lines == [*(f"{step} {{'lr': 0.5}}" for step in range(200)), "done"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [("dies", "its process ended by 9: the last words"), ("out", "OSError: the server is away"), ("none", "Lookup")],
)
def test_end_says_what_a_tracker_ended_by(begun, name, words):
    tracker = begun(name)
    with pytest.raises(TrackerError, match=words):
        tracker.end("done")
    assert tracker._process.poll() is not None


def test_tracker_that_waits_forever_holds_up_no_call_and_its_end_for_a_bounded_time(begun, monkeypatch):
    monkeypatch.setattr(process, "PATIENCE_S", 0.2)
    monkeypatch.setattr(process, "MOST_WAITING", 5_000)
    tracker = begun("waits")
    started = time.monotonic()
    for step in range(3_000):  # far more than a pipe holds
        tracker.record(step, {"lr": 0.5, "text" * 10: 1.0})
    with pytest.raises(TrackerError, match="not taken all within"):
        tracker.end("done")
    assert time.monotonic() - started < 20  # of 600; the machine may be busy
    assert tracker._process.poll() is not None


def test_after_a_tracker_that_hangs_others_are_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(process, "PATIENCE_S", 0.4)
    monkeypatch.setattr(process, "LEAST_S", 0.1)
    waited: list[float] = []

    class Hung:
        def wait(self, seconds):
            waited.append(seconds)
            time.sleep(seconds)
            raise subprocess.TimeoutExpired("hung", seconds)

    patience = Patience()
    for _ in range(3):
        with pytest.raises(TrackerError, match="not taken all"):
            patience.wait(Hung())
    assert waited == [0.4, 0.1, 0.1]


def test_calls_that_pile_up_end_the_tracker(begun, monkeypatch):
    monkeypatch.setattr(process, "MOST_WAITING", 50)
    tracker = begun("waits")
    steps = range(100_000)
    with pytest.raises(TrackerError, match="50 calls wait for it"):
        list(map(tracker.record, steps, ({"lr": 0.5, "text" * 1000: 1.0} for _ in steps)))
    tracker.close()
    assert tracker._process.poll() is not None
