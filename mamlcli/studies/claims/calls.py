"""Each call of a reproduction that ran something is noted beside the plan: how long it took, and on how much."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.json_reading import file_bytes, json_value
from mamlcli.common.machine import now, num_cores
from mamlcli.common.tables import duration

CALLS_FILE = "calls.json"


@dataclass(frozen=True)
class Call:
    """A call is one of the program, from its begin to its end, an interruption included.

    Attributes:
        began: UTC time, ISO 8601.
        elapsed_s: seconds by the clock on the wall.
        num_processes: runs at the same time.
        num_cores: that it could use.
    """

    began: str
    elapsed_s: float
    num_processes: int
    num_cores: int


class CallClock:
    """Measures one call, as a context, and notes it at its end if a run or a pilot ended in it."""

    def __init__(self, path: Path, num_processes: int) -> None:
        self._path, self._num_processes, self._num_ended = path, num_processes, 0

    def count(self, status: str) -> None:
        """Count how a run ended; one that was done before took no time."""
        self._num_ended += status != "skipped"

    def __enter__(self) -> CallClock:
        self._began, self._started = now(), time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._num_ended:
            elapsed = round(time.monotonic() - self._started, 1)
            calls = [*read_calls(self._path), Call(self._began, elapsed, self._num_processes, num_cores())]
            atomic_write(self._path / CALLS_FILE, json_text([asdict(call) for call in calls]).encode())


def read_calls(path: Path) -> tuple[Call, ...]:
    """Return the calls that are noted in a folder; none where the file cannot be read, as nothing is decided by it."""
    try:
        values = json_value(file_bytes(path / CALLS_FILE))
        return tuple(Call(**value) for value in values)  # type: ignore[attr-defined]
    except (OSError, ValueError, TypeError):
        return ()


def elapsed_words(calls: Sequence[Call]) -> str:
    """Return in words how long a reproduction took, with how many processes, on how many cores."""
    if not calls:
        return "How long it took by the clock was not noted."
    elapsed = duration(sum(call.elapsed_s for call in calls))
    of_calls = f", in {len(calls)} calls," if len(calls) > 1 else ""
    processes = " or ".join(dict.fromkeys(_count(call.num_processes, "process", "processes") for call in calls))
    cores = " or ".join(dict.fromkeys(_count(call.num_cores, "core", "cores") for call in calls))
    return f"It took {elapsed} by the clock{of_calls} with {processes} at a time on {cores}."


def _count(num: int, one: str, more: str) -> str:
    return f"{num} {one if num == 1 else more}"
