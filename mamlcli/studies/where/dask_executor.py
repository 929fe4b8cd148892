"""Has the jobs of a study done by the workers of a Dask cluster, each in a child of a worker."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.jobs import LOST, Job, Outcome, failed, packed, unpacked
from mamlcli.studies.where.connection import Connection
from mamlcli.studies.where.on_worker import Surroundings, do_job, end_children, stop_jobs

if TYPE_CHECKING:
    from distributed import Future

# How long the driver waits for the end of a job before it looks for a signal again.
_POLL_S = 0.2

# How often it asks how many workers there are, and tells them to stop.
_LOOK_S = 2.0

# How long a cluster that gets no workers from us may be without any.
_ALONE_S = 300.0

# How long jobs may take to stop when the driver ends by an error.
_PATIENCE_S = 10.0


class DaskExecutor:
    """Has jobs done by the workers of a connection; at its end none of them is at work for it.

    Args:
        connection: to a cluster that was probed.
        num_processes: jobs at a time, as far as is known now.
        num_threads: that each may use.
        most: jobs at a time, if more workers come; None for as many as they take.
    """

    def __init__(
        self, connection: Connection, *, num_processes: int, num_threads: int, most: int | None = None
    ) -> None:
        self.num_processes, self.num_threads, self._most = num_processes, num_threads, most
        self._connection, self._client = connection, connection.client
        self._around = Surroundings.here(uuid.uuid4().hex)
        self._futures: dict[str, tuple[Future, float]] = {}
        self._num_begun, self._looked_s, self._told_s = 0, 0.0, 0.0
        self._num_workers, self._num_slots, self._seen_s = 0, 0, time.monotonic()

    def has_room(self) -> bool:
        """Return whether the workers can take another job: those that are there, or will be if they are needed."""
        if self._connection.num_processes is not None:
            return len(self._futures) < self.num_processes
        self._look()
        return len(self._futures) < min(self._num_slots, self._most or self._num_slots)

    def begin(self, job: Job) -> int:
        """Hand a job to Dask."""
        self._num_begun += 1
        key = f"mamlcli-{self._around.driver}-{self._num_begun}"
        future = self._client.submit(do_job, packed(job), self._around, key=key, pure=False, retries=0)
        self._futures[job.key] = (future, time.monotonic())
        return 0

    def ended(self, *, was_interrupted: bool) -> list[Outcome]:
        """Return how jobs ended."""
        self._check()
        self._look()
        if not (keys := self._done()):
            time.sleep(_POLL_S)
            keys = self._done()
        return [self._outcome(key, was_interrupted=was_interrupted) for key in keys]

    def _done(self) -> list[str]:
        return [key for key, (future, _) in self._futures.items() if future.done()]

    def _outcome(self, key: str, *, was_interrupted: bool) -> Outcome:
        """Return how a job ended, or how it was lost."""
        from distributed import KilledWorker

        future, began = self._futures.pop(key)
        wall_s = time.monotonic() - began
        try:
            outcome = unpacked(future.result())
            assert isinstance(outcome, Outcome)
            return _with_workers(outcome, self._num_workers)
        except KilledWorker as error:
            num_lost = error.allowed_failures + 1
            reason = f"its worker was lost ({num_lost} time{'s' if num_lost > 1 else ''})"
            outcome = Outcome(key, "failed", reason=reason, error=LOST, attempts=num_lost, wall_s=wall_s)
        except Exception as error:  # of Dask itself: it was cancelled, or could not be read on the worker
            self._check()
            outcome = replace(failed(key, error), wall_s=wall_s)
        finally:
            future.release()
        return Outcome(key, "interrupted", wall_s=wall_s) if was_interrupted else outcome

    def withdraw(self) -> list[str]:
        """Take back the jobs that no worker has begun."""
        waiting = self._waiting()
        for key in waiting:
            future, _ = self._futures.pop(key)
            future.cancel()
        return waiting

    def _waiting(self) -> list[str]:
        """Return the keys of the jobs that no worker has."""
        if not self._futures:
            return []
        on_worker = {key for keys in self._client.processing().values() for key in keys}
        return [key for key, (future, _) in self._futures.items() if not future.done() and future.key not in on_worker]

    def stop(self) -> None:
        """Tell all workers to stop the jobs of this driver."""
        if time.monotonic() - self._told_s < _LOOK_S:
            return
        self._told_s = time.monotonic()
        # In a thread: a worker that does not answer keeps no other from being told, nor the driver from going on.
        threading.Thread(target=self._on_all, args=(stop_jobs, self._around.driver), daemon=True).start()

    def _on_all(self, function: object, *words: str) -> None:
        with contextlib.suppress(Exception):  # what does not answer is told again, or is gone
            self._client.run(function, *words, on_error="ignore")

    def close(self, *, is_patient: bool) -> None:
        """Take back what is still at work, and wait a moment for it; children without a job stay for the next queue."""
        if not self._futures:
            return
        self._on_all(stop_jobs, self._around.driver)
        deadline = time.monotonic() + (_PATIENCE_S if is_patient else 0.0)
        while any(not future.done() for future, _ in self._futures.values()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        for future, _ in self._futures.values():
            future.cancel()
        self._futures.clear()

    def end(self) -> None:
        """Leave the cluster: nothing of this driver is left on its workers."""
        self.close(is_patient=False)
        if self._client.status == "running":
            self._on_all(end_children)

    def _look(self) -> None:
        """Count workers and how many jobs they can have at a time, now and then."""
        if time.monotonic() - self._looked_s < _LOOK_S:
            return
        self._looked_s = time.monotonic()
        slots = self._client.nthreads()
        self._num_workers, self._num_slots = len(slots), sum(slots.values())
        if slots or self._connection.num_processes is not None:
            self._seen_s = time.monotonic()
        elif time.monotonic() - self._seen_s > _ALONE_S:
            raise MamlError(
                "--on",
                expected=f"workers until the end ({self._connection.words})",
                got=f"none for {_ALONE_S / 60:g} minutes",
                next_step="Start some and run the same command again: what was done is kept",
            )

    def _check(self) -> None:
        """Raise MamlError where the scheduler is gone, or no worker is there and none will come."""
        if self._client.status != "running":
            raise MamlError(
                "--on",
                expected=f"a scheduler that is there until the end ({self._connection.words})",
                got=f"one that does not answer any more ({self._client.status})",
                why="Its jobs stop and are saved",
                next_step="Run the same command again, there or elsewhere: what was done is kept",
            )
        self._connection.pending()


def _with_workers(outcome: Outcome, num_workers: int) -> Outcome:
    return replace(outcome, where=f"{outcome.where}, {num_workers} worker{'s' if num_workers != 1 else ''}")
