"""The process of one tracker takes its calls from stdin, line by line, and says on stdout why it ends too early."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from mamlcli.common.plugins import TRACKERS, installed
from mamlcli.common.words import first_line
from mamlcli.training.trackers.interface import TrackedRun, Tracker
from mamlcli.training.trackers.mlflow_store import MlflowStore

# How long a tracker may take to end once the process of its run is gone.
_LAST_S = 60.0


def main() -> None:
    """Be the tracker that the first argument names, until its run ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the run, which tells what is left to be written
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the tracker prints is kept apart
    try:
        serve(tracker_of(sys.argv[1]))
    except BaseException as error:  # SystemExit too: whatever it is, it is the tracker's
        answer.write(f"{type(error).__name__}: {first_line(error)}")
        answer.flush()
        os._exit(1)  # threads that the tracker has started are not waited for


def tracker_of(name: str) -> Tracker:
    """Return the tracker that has a name: MLflow's, or one of an installed package."""
    if name == "mlflow":
        return MlflowStore()
    points = installed(TRACKERS).get(name)
    if not points:
        raise LookupError(f"no installed package has a tracker of this name by the entry point {TRACKERS}")
    made = points[0].load()()
    missing = [call for call in _CALLS if not callable(getattr(made, call, None))]
    if missing:
        raise TypeError(f"{points[0].value} has no method {missing[0]}; a tracker is a subclass of {Tracker.__name__}")
    tracker: Tracker = made
    return tracker


_CALLS = ("begin", "record", "validation", "scores", "figure", "end")


def serve(tracker: Tracker) -> None:
    """Call the tracker for every line; the end of the lines without a last word is that of an interrupted run."""
    calls = {name: getattr(tracker, name) for name in _CALLS}
    calls["begin"] = lambda run: tracker.begin(_run_of(run))
    calls["figure"] = lambda name, path: tracker.figure(name, Path(path))
    has_begun = False
    for line in sys.stdin.buffer:
        name, *arguments = json.loads(line)
        calls[name](*arguments)
        has_begun = True
        if name == "end":
            return
    timer = threading.Timer(_LAST_S, os._exit, (1,))
    timer.daemon = True
    timer.start()
    if has_begun:
        tracker.end("interrupted")
    timer.cancel()


def _run_of(fields: dict[str, object]) -> TrackedRun:
    return TrackedRun(**{**fields, "path": Path(str(fields["path"])), "folder": Path(str(fields["folder"]))})  # type: ignore[arg-type]
