"""A worker that is told to leave hands over what its job could save, and then ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from mamlcli.studies.where.slurm_worker import dask_setup

distributed = pytest.importorskip("distributed", reason="the package distributed is not installed (extra cluster)")


def saved_when_told(seconds: float) -> str:
    """Work until the worker leaves, as a job does; say so."""
    deadline = time.monotonic() + seconds
    worker = distributed.get_worker()
    while worker.status.name == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    return f"saved while {worker.status.name}"


async def leave_while_at_work(folder) -> tuple[str, bool, str]:
    """Send SIGTERM to a worker at work; return what its job gave, whether the next one began, and how it ended."""
    there = {"protocol": "tcp", "host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    async with distributed.Scheduler(**there) as scheduler:
        settings = {"nthreads": 1, "host": "127.0.0.1", "dashboard": False, "local_directory": str(folder)}
        worker = await distributed.Worker(scheduler.address, **settings)
        dask_setup(worker)
        async with distributed.Client(scheduler.address, asynchronous=True, set_as_default=False) as client:
            first = client.submit(saved_when_told, 30, pure=False)
            while not worker.active_keys:
                await asyncio.sleep(0.02)
            second = client.submit(saved_when_told, 0, pure=False)
            os.kill(os.getpid(), signal.SIGTERM)
            saved = await first
            await worker.finished()
            return saved, second.done(), worker.status.name


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_told_to_leave_hands_over_what_was_saved_and_takes_no_more(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    try:
        saved, next_began, status = asyncio.run(asyncio.wait_for(leave_while_at_work(tmp_path), 60))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert saved == "saved while closing_gracefully"
    assert not next_began
    assert status == "closed"
