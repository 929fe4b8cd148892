"""Jobs are queued here and handed to an executor; one that fails, or whose process dies, fails no other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Protocol

from mamlcli.common.errors import Interrupted
from mamlcli.common.processes.child import Child, close_children
from mamlcli.common.processes.jobs import LOST, Job, Outcome
from mamlcli.common.processes.signals import interruption_flag

# The variable that says which GPUs a process has.
VISIBLE = "CUDA_VISIBLE_DEVICES"

# How often the parent looks for a signal while all processes are busy.
_POLL_S = 0.2

# How often a job may lose the machine that it runs on, not long after it began there; it goes on from its checkpoint
# on another. One that was at work for longer has lost it for no reason of its own, as at the end of a batch job's time.
_MAX_LOST = 5
_LONG_S = 600.0


class Executor(Protocol):
    """An executor has jobs done, some at a time; `run_jobs` keeps the queue, tries again, and says when to stop.

    Between two queues it may be used again.

    Attributes:
        num_processes: jobs at a time, at most.
        num_threads: threads that each job may use.
    """

    @property
    def num_processes(self) -> int: ...

    @property
    def num_threads(self) -> int: ...

    def has_room(self) -> bool:
        """Return whether it takes another job now."""

    def begin(self, job: Job) -> int:
        """Take a job; return the id of the process that has it, 0 where that is not known."""

    def ended(self, *, was_interrupted: bool) -> Sequence[Outcome]:
        """Return how jobs ended since the last call; wait a moment for the first. `LOST` is told apart from others."""

    def withdraw(self) -> Sequence[str]:
        """Take back the jobs that wait for a machine, and return their keys."""

    def stop(self) -> None:
        """Tell the jobs at work to stop; called again until they have ended."""

    def close(self, *, is_patient: bool) -> None:
        """End what is still at work; not patient where an error or a second Ctrl-C cut the queue."""


@dataclass(frozen=True)
class _Try:
    """A job in the queue, with how often it was tried before, and how often it lost its machine."""

    job: Job
    num_failed: int = 0
    num_lost: int = 0

    def after(self, outcome: Outcome, max_attempts: int) -> _Try | None:
        """Return the next attempt of a job that failed, if there is to be one."""
        if not self.job.has_hope(outcome):
            return None
        if outcome.error == LOST:
            num_lost = 0 if outcome.wall_s > _LONG_S else self.num_lost + outcome.attempts
            return replace(self, num_lost=num_lost) if num_lost < _MAX_LOST else None
        return replace(self, num_failed=self.num_failed + 1) if self.num_failed + 1 < max_attempts else None


def run_jobs(
    jobs: Sequence[Job],
    *,
    executor: Executor,
    max_attempts: int = 2,
    deadline: float | None = None,
    on_start: Callable[[Job, int], None] = lambda job, pid: None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> dict[str, Outcome]:
    """Have jobs done and return the outcomes, by key, of those that began.

    Args:
        jobs: taken in this order, as many at a time as the executor takes.
        executor: does them.
        max_attempts: how often a job that fails is tried, each time in a new process; the others go on.
        deadline: no job begins after it, on the clock of `time.monotonic`; those at work then end as they would.
        on_start: called with a job and the id of its process each time it is handed out.
        on_end: called with the outcome of a job, once.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the processes have stopped, each as its job does.
    """
    queue = deque(_Try(job) for job in jobs)
    at_work: dict[str, _Try] = {}
    outcomes: dict[str, Outcome] = {}
    is_clean = False
    with interruption_flag() as is_interrupted:
        try:
            while queue or at_work:
                if is_interrupted():
                    executor.stop()
                is_late = deadline is not None and time.monotonic() >= deadline
                if is_late or is_interrupted():
                    queue.clear()
                    for key in executor.withdraw():
                        del at_work[key]
                while queue and executor.has_room():
                    now = queue.popleft()
                    at_work[now.job.key] = now
                    on_start(now.job, executor.begin(now.job))
                for outcome in executor.ended(was_interrupted=is_interrupted()):
                    now = at_work.pop(outcome.key)
                    again = now.after(outcome, max_attempts)
                    if again and not is_late:
                        queue.append(again)
                        continue
                    attempts = now.num_failed + now.num_lost + outcome.attempts
                    outcomes[outcome.key] = replace(outcome, attempts=attempts)
                    on_end(outcomes[outcome.key])
            is_clean = True
        finally:
            executor.close(is_patient=is_clean)
        if is_interrupted():
            raise Interrupted("interrupted")
    return outcomes


class LocalExecutor:
    """Has jobs done by processes of this machine, which take job after job.

    Args:
        num_processes: processes.
        num_threads: that each may use.
        environments: variables that each process has otherwise than this one, one set for each; by default none.
    """

    def __init__(
        self, num_processes: int, *, num_threads: int = 1, environments: Sequence[Mapping[str, str]] = ()
    ) -> None:
        self.num_processes = num_processes
        self.num_threads = num_threads
        self._environments: list[dict[str, str | None]] = [{**environment} for environment in environments]
        self._environments = self._environments or [{}] * num_processes
        self._children: list[Child] = []

    def has_room(self) -> bool:
        """Return whether a process has no job, or another may be started."""
        return len(self._children) < self.num_processes or any(child.job is None for child in self._children)

    def begin(self, job: Job) -> int:
        """Give a job to a process that has none."""
        child = next((child for child in self._children if child.job is None), None)
        if child is None:
            free = list(self._environments)
            for other in self._children:
                free.remove(other.environment)
            child = Child(free[0])
            self._children.append(child)
        child.begin(job)
        return child.process.pid

    def ended(self, *, was_interrupted: bool) -> list[Outcome]:
        """Return how jobs ended; a process whose job failed ends, too."""
        busy = {child.connection: child for child in self._children if child.job is not None}
        ended = [busy[ready] for ready in wait(list(busy), _POLL_S) if isinstance(ready, Connection)]
        return [self._finished(child, was_interrupted) for child in ended]

    def _finished(self, child: Child, was_interrupted: bool) -> Outcome:
        job = child.job
        assert job is not None
        outcome = child.finish(was_interrupted=was_interrupted)
        if job.has_hope(outcome):
            self._children.remove(child)  # whatever made it fail may still be in its memory
            close_children([child])
        gpu = child.environment.get(VISIBLE)
        return replace(outcome, where=f"GPU {gpu}") if gpu else outcome

    def withdraw(self) -> list[str]:
        """Return nothing: a job that was taken has begun."""
        return []

    def stop(self) -> None:
        """Tell the jobs at work to stop."""
        for child in self._children:
            child.interrupt()

    def close(self, *, is_patient: bool) -> None:
        """End the processes."""
        children, self._children = self._children, []
        close_children(children, is_patient=is_patient)
