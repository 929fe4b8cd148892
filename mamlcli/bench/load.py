"""This module tells how busy the machine was with other work while something was measured."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Load:
    """What else the machine did while a bench ran.

    Attributes:
        before: load averages over 1, 5 and 15 minutes when the bench began; None where the system does not tell.
        after: the same at its end, the bench included.
        by_others: share of all cores that other processes used while it ran, 0 to 1; None likewise.
    """

    before: list[float] | None = None
    after: list[float] | None = None
    by_others: float | None = None


class LoadWatch:
    """Watches the load from when it is made."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._before = _averages()
        self._began = self._times()

    def load(self) -> Load:
        """Return the load since the watch was made."""
        began, ended = self._began, self._times()
        by_others = None
        if began is not None and ended is not None and ended[0] > began[0]:
            all_s, busy_s, own_s = (end - start for start, end in zip(began, ended, strict=True))
            by_others = round(min(1.0, max(0.0, (busy_s - own_s) / all_s)), 3)
        return Load(self._before, _averages(), by_others)

    def _times(self) -> tuple[float, float, float] | None:
        """Return (seconds of all cores, those at work, those of this process and its children)."""
        try:
            line = self._stat.read_text(encoding="ascii").splitlines()[0]
            ticks = [int(word) for word in line.split()[1:9]]
            per_s = os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError, AttributeError):
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal; what others steal from a virtual machine is busy.
        idle = sum(ticks[3:5])
        own = time.process_time() + sum(os.times()[2:4])
        return sum(ticks) / per_s, (sum(ticks) - idle) / per_s, own


def _averages() -> list[float] | None:
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (OSError, AttributeError):
        return None
