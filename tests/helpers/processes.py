"""What tests of processes ask of them: whether one is alive, and to wait until something holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def wait_for(condition: Callable[[], bool], *, timeout_s: float = 180.0) -> None:
    """Wait until a condition holds; fail after three minutes, or as long as is said."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def is_alive(process_id: int) -> bool:
    """Return whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process_id}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
