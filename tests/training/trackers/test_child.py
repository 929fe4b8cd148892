"""The process of a tracker, its part in this process."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from mamlcli.training.trackers.child import serve, tracker_of
from mamlcli.training.trackers.interface import TrackedRun, Tracker
from mamlcli.training.trackers.mlflow_store import MlflowStore
from tests.helpers.trackers import install_tracker, tracked

CODE = """
from mamlcli.training.trackers.interface import Tracker
class Good(Tracker):
    pass
class Poor:
    def begin(self, run): ...
"""


class Noting(Tracker):
    """Notes its calls."""

    def __init__(self):
        self.calls = []

    def begin(self, run):
        self.calls.append(run)

    def record(self, step, values):
        self.calls.append((step, values))

    def figure(self, name, path):
        self.calls.append((name, path))

    def end(self, status):
        self.calls.append(status)


@pytest.fixture
def calls_of(monkeypatch):
    """Serve calls to a tracker, and return what it took."""

    def served(*calls):
        lines = b"".join(json.dumps(call).encode() + b"\n" for call in calls)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
        tracker = Noting()
        serve(tracker)
        return tracker.calls

    return served


def test_calls_arrive_as_they_were_made(calls_of, tmp_path):
    run = tracked(tmp_path, study="depths")
    fields = {**asdict(run), "path": str(run.path), "folder": str(run.folder)}
    step = ["record", 1, {"lr": float("inf")}]
    taken = calls_of(["begin", fields], step, ["figure", "curve", "/x/curve.png"], ["end", "done"])
    assert taken == [run, (1, {"lr": float("inf")}), ("curve", Path("/x/curve.png")), "done"]
    assert isinstance(taken[0], TrackedRun)


def test_calls_that_stop_without_a_last_one_are_those_of_an_interrupted_run(calls_of):
    assert calls_of(["record", 1, {}]) == [(1, {}), "interrupted"]
    assert calls_of() == []


def test_tracker_is_found_by_its_name(monkeypatch, tmp_path):
    install_tracker(monkeypatch, tmp_path / "site", CODE, good="Good", poor="Poor")
    assert type(tracker_of("good")).__name__ == "Good"
    assert isinstance(tracker_of("mlflow"), MlflowStore)
    with pytest.raises(TypeError, match="Poor has no method record; a tracker is a subclass of Tracker"):
        tracker_of("poor")
    with pytest.raises(LookupError, match="no installed package"):
        tracker_of("missing")
