"""Jobs for tests of places where jobs run: they take a while, save what they have done, and stop when told to."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mamlcli.common.errors import Interrupted
from mamlcli.common.processes.jobs import IsStopped


def count_up(payload: tuple[str, int], is_stopped: IsStopped) -> list[str]:
    """Count to a number in a file, a step each tenth of a second, and go on where the file ends.

    Returns:
        The Slurm jobs in which it counted, in their order.
    """
    path, most = Path(payload[0]), payload[1]
    while True:
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) >= most:
            return list(dict.fromkeys(lines))
        with path.open("a") as file:
            file.write(f"{os.environ.get('SLURM_JOB_ID', 'none')}\n")
        if is_stopped():
            raise Interrupted("told to stop")
        time.sleep(0.1)
