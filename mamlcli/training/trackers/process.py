"""A tracker that is not ours lives in a process of its own: what it raises, prints or waits for changes no run.

The calls go to it as lines of JSON through a pipe, which a thread fills, so that no call waits for the tracker.
"""

from __future__ import annotations

import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from mamlcli.common.processes.fresh import fresh_python
from mamlcli.training.trackers.interface import TrackedRun, Tracker

# How long the end of a run waits for its tracker to have written all.
PATIENCE_S = 30.0

# How long it waits once another tracker, of this run or of one that is trained together with it, has not answered.
LEAST_S = 2.0

# Calls that may wait for a slow tracker, some 30 MB of them.
MOST_WAITING = 100_000

_CODE = "from mamlcli.training.trackers.child import main\nmain()"


class TrackerError(Exception):
    """A tracker has ended by itself, or does not answer; the message says what came of it."""


class Patience:
    """How long trackers are waited for: once one has not answered, not long any more."""

    def __init__(self) -> None:
        self._most_s = PATIENCE_S

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the process of a tracker to end.

        Raises:
            TrackerError: it has not ended in time.
        """
        most_s = self._most_s
        try:
            process.wait(most_s)
        except subprocess.TimeoutExpired:
            self._most_s = LEAST_S
            raise TrackerError(f"it has not taken all within {most_s:.0f} seconds of the run's end") from None


class ProcessTracker(Tracker):
    """Hands the calls of a tracker on to its process; each raises TrackerError once that is found to have ended.

    Args:
        name: of the tracker.
        patience: of the end with it; by default its own.
    """

    def __init__(self, name: str, patience: Patience | None = None) -> None:
        self._name = name
        self._patience = patience or Patience()

    def begin(self, run: TrackedRun) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (what it prints, until `close`)
        self._process = subprocess.Popen(
            fresh_python(_CODE, self._name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
        )
        self._calls: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._hand_on, daemon=True, name=f"tracker {self._name}").start()
        self._call("begin", {**asdict(run), "path": str(run.path), "folder": str(run.folder)})

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self._call("record", step, values)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        self._call("validation", step, values)

    def scores(self, curve: Sequence[Mapping[str, float]]) -> None:
        self._call("scores", curve)

    def figure(self, name: str, path: Path) -> None:
        self._call("figure", name, str(path.absolute()))

    def end(self, status: str) -> None:
        """Wait until the tracker has written all, as long as there is patience; then its process is ended."""
        try:
            self._call("end", status)
            self._calls.put(None)
            self._patience.wait(self._process)
            if self._process.returncode:
                raise self._ended()
        finally:
            self.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._calls.put(None)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._words.close()

    def _call(self, name: str, *arguments: object) -> None:
        if self._process.poll() is not None:
            raise self._ended()
        if self._calls.qsize() > MOST_WAITING:
            raise TrackerError(f"{MOST_WAITING:,} calls wait for it")
        self._calls.put(json.dumps([name, *arguments]).encode() + b"\n")

    def _hand_on(self) -> None:
        """Write the calls into the pipe, as fast as the tracker takes them."""
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(OSError):  # the process has ended, which the next call finds
            while (line := self._calls.get()) is not None:
                pipe.write(line)
                pipe.flush()
        with suppress(OSError):
            pipe.close()

    def _ended(self) -> TrackerError:
        """Return why the process has ended: what it says itself, else the last line that it printed."""
        assert self._process.stdout is not None
        if said := self._process.stdout.read(10_000).decode(errors="replace").strip():
            return TrackerError(said)
        self._words.seek(0)
        lines = self._words.read()[-10_000:].decode(errors="replace").strip().splitlines()
        return TrackerError(f"its process ended by {self._process.returncode}" + (f": {lines[-1]}" if lines else ""))
