"""A worker in a Slurm job leaves in good order when Slurm tells it to; `dask worker --preload` loads this file.

Slurm tells it by SIGTERM, two minutes before the end of the wall time and where a job is cancelled or requeued.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from distributed import Worker

# How long a job may take to save its work; less than the two minutes between the signal and the end.
_SAVING_S = 100.0

# How long the last outcome is kept for the driver, which asks for it at once.
_HANDING_OVER_S = 1.0


def dask_setup(worker: Worker) -> None:
    """Prepare a worker: Dask calls this in the main thread, where signals arrive, once the worker has begun."""
    loop = asyncio.get_running_loop()
    leaving: list[asyncio.Task[None]] = []

    def begin_to_leave() -> None:
        if not leaving:
            leaving.append(asyncio.ensure_future(_leave(worker)))

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin_to_leave)

    signal.signal(signal.SIGTERM, on_signal)


async def _leave(worker: Worker) -> None:
    """Take no more jobs, let the one at work save what it has done, and end the worker."""
    from distributed import Status

    worker.status = Status.closing_gracefully
    deadline = time.monotonic() + _SAVING_S
    while worker.active_keys and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    await asyncio.sleep(_HANDING_OVER_S)
    await worker.close(reason="Slurm told it to leave")
