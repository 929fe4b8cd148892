"""What runs in the process of a Dask worker: it hands each job to a child, and loads no torch itself.

Dask runs a task in a thread, cannot cancel it, and a signal does not reach it. So a task looks here, while its child is
at work, for what asks the job to stop: the word of the driver; the scheduler, which has dropped the task, as it does
when the driver is gone; the end of the worker itself.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mamlcli.common.errors import MamlError
from mamlcli.common.files import CACHE_VARIABLE, DATA_VARIABLE
from mamlcli.common.processes.child import Child, close_children
from mamlcli.common.processes.jobs import DIED, LOST, Job, Outcome, failed

# How often a task looks whether its job is to stop.
_POLL_S = 0.2

# Variables that a child has as the driver has them: those that name places of mamlcli's, and those by which libraries
# choose their threads, which Dask sets to 1 in its workers.
_OF_DRIVER = (DATA_VARIABLE, CACHE_VARIABLE, "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Surroundings:
    """What a child has of the driver, so that it finds what the driver found.

    Attributes:
        driver: a word that no other driver has.
        folder: current folder.
        environment: variables; None for those that the driver does not have.
    """

    driver: str
    folder: str
    environment: Mapping[str, str | None]

    @classmethod
    def here(cls, driver: str) -> Surroundings:
        """Return those of this process."""
        return cls(driver, os.getcwd(), {name: os.environ.get(name) for name in _OF_DRIVER})


class _Children:
    """The children of this worker that have no job, and the drivers that have told their jobs to stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[Surroundings, Child]] = []
        self.stopped: set[str] = set()

    def taken(self, around: Surroundings) -> Child:
        """Return a child of a driver, an idle one if there is one; those of drivers before end."""
        with self._lock:
            mine = [child for of, child in self._idle if of == around and child.process.poll() is None]
            others = [child for _, child in self._idle if child not in mine]
            self._idle = [(around, child) for child in mine[1:]]
        close_children(others)
        return mine[0] if mine else Child(around.environment, around.folder)

    def end_idle(self) -> None:
        """End those that have no job."""
        with self._lock:
            idle, self._idle = [child for _, child in self._idle], []
        close_children(idle)

    def give_back(self, around: Surroundings, child: Child) -> None:
        """Keep a child for the next job."""
        with self._lock:
            self._idle.append((around, child))


_CHILDREN = _Children()


def do_job(job: Job, around: Surroundings) -> Outcome:
    """Have a child of this worker do a packed job, and return how it ended."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def is_left() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled" or worker.status.name not in ("running", "paused")

    if around.driver in _CHILDREN.stopped:
        return Outcome(job.key, "interrupted")
    try:
        child = _CHILDREN.taken(around)
    except (MamlError, OSError) as error:  # the folder is not here, or no process can be started
        return replace(failed(job.key, error), where=place_words())
    child.begin(job)
    is_stopped = False
    while not child.connection.poll(_POLL_S):
        if around.driver in _CHILDREN.stopped or is_left():
            is_stopped = True
            child.interrupt()
    outcome = child.finish(was_interrupted=is_stopped)
    if outcome.error == DIED and _holds_soon(is_left):  # a batch system tells both processes, and the child was faster
        outcome = replace(outcome, status="interrupted")
    if job.has_hope(outcome) or child.process.poll() is not None:
        close_children([child])
    else:
        _CHILDREN.give_back(around, child)
    if outcome.status == "interrupted" and around.driver not in _CHILDREN.stopped:
        outcome = Outcome(job.key, "failed", reason="its worker was told to leave", error=LOST, wall_s=outcome.wall_s)
    return replace(outcome, where=place_words())


def _holds_soon(condition: Callable[[], bool]) -> bool:
    """Return whether a condition holds within a second."""
    deadline = time.monotonic() + 1.0
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_S / 10)
    return condition()


def stop_jobs(driver: str) -> None:
    """Tell the jobs of a driver on this worker to stop."""
    _CHILDREN.stopped.add(driver)


def end_children() -> None:
    """End the children of this worker that have no job: their memory is free again."""
    _CHILDREN.end_idle()


def place_words() -> str:
    """Return this machine's name, and the GPUs that are set for this process."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return platform.node() + (f" GPU {gpus}" if gpus else "")
