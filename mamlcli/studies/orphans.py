"""A study that was killed leaves processes that end after it; the same study, started again, waits for them here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from mamlcli.common.processes.lifeline import PATIENCE_S
from mamlcli.runs.folder import RunDirectory

_LOOK_S = 0.2


def wait_for_orphans(folders: Iterable[Path], *, most_s: float = 2 * PATIENCE_S) -> None:
    """Wait until no process works on any of these runs, for a while in all: one that is at work then is no orphan.

    The caller holds the study, so that no other call of it starts processes.
    """
    deadline = time.monotonic() + most_s
    for folder in folders:
        while RunDirectory(folder).is_held() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
