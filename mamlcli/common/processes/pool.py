"""A pool has processes that take job after job; one that dies fails its own job and no other.

Each process is a fresh Python with its own CUDA context, and imports torch once for all its jobs. The parent shares
pipes with each and no lock: a process can be killed at any moment without leaving the others to wait. While a job
runs, the only thing that can arrive in its process's pipe is the word to stop, or the end of the parent.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from typing import NoReturn, cast

from mamlcli.common.disk import environment_error
from mamlcli.common.errors import Interrupted, MamlError, is_out_of_memory
from mamlcli.common.processes.fresh import fresh_python
from mamlcli.common.processes.lifeline import end_after
from mamlcli.common.processes.signals import interruption_flag, left_to_parent
from mamlcli.common.words import first_line

IsStopped = Callable[[], bool]

# A function whose payload is of whatever type; NoReturn, as the type of an argument, admits them all.
JobFunction = Callable[[NoReturn, IsStopped], object]

# How often the parent looks for a signal while all processes are busy.
_POLL_S = 0.2

# How long a process may take to end when asked, before it is killed.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Job:
    """Holds one piece of work for a process.

    Attributes:
        key: its name, unique among the jobs.
        function: a function of a module, called with the payload and a function that says whether to stop; it
            raises `Interrupted` once it has stopped. What it takes and returns is pickled.
        payload: what the function takes.
        can_stop: whether the function asks if it is to stop; if not, an interruption ends its process.
    """

    key: str
    function: JobFunction
    payload: object
    can_stop: bool = True

    def run(self, is_stopped: IsStopped) -> object:
        """Call the function in this process and return its value."""
        # The types of function and payload are those of whoever made the job; they are not known here.
        return self.function(cast(NoReturn, self.payload), is_stopped)


@dataclass(frozen=True)
class Outcome:
    """Says how a job ended.

    Attributes:
        key: of the job.
        status: "done", "failed" or "interrupted".
        value: what the function returned; None unless done.
        reason: why it failed, in words.
        error: the name of the exception's class, or "died".
        details: the traceback, for errors that are not the user's.
        attempts: how often it was tried.
        wall_s: seconds of the last attempt.
    """

    key: str
    status: str
    value: object = None
    reason: str = ""
    error: str = ""
    details: str = ""
    attempts: int = 1
    wall_s: float = 0.0


class _Process:
    """Holds a process, the parent's end of its pipe, and the job it has."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        # Nothing is sent through it: it tells the process of this one's end while a job is at work.
        ends_with_parent, self.lifeline = Pipe(duplex=False)
        handles = (theirs.fileno(), ends_with_parent.fileno())
        code = f"from {__name__} import work\nwork{handles}"
        with left_to_parent(), theirs, ends_with_parent:
            self.process = _started(fresh_python(code), handles)
        # Theirs are closed here now, or the death of the process would not close the pipe.
        self.job: Job | None = None
        self.attempt = 0
        self.began = 0.0

    def begin(self, job: Job, attempt: int) -> None:
        self.job, self.attempt, self.began = job, attempt, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has died already; `finish` will see that
            self.connection.send(job)

    def finish(self, *, was_interrupted: bool) -> Outcome:
        """Return how the job ended; the process has none after that.

        A job may end as interrupted by a signal to its process alone; unless the parent was interrupted too, that
        is a death like any other.
        """
        assert self.job is not None
        outcome = self._received(self.job.key, was_interrupted=was_interrupted)
        if outcome.status == "interrupted" and not was_interrupted:  # not by the parent: as good as killed
            reason = "its process was told to stop (SIGTERM or SIGINT)"
            outcome = Outcome(self.job.key, "failed", reason=reason, error="died")
        self.job = None
        return replace(outcome, attempts=self.attempt, wall_s=time.monotonic() - self.began)

    def _received(self, key: str, *, was_interrupted: bool) -> Outcome:
        """Return the outcome that the process sends, or how the process died."""
        try:
            outcome = self.connection.recv()
        except (EOFError, OSError):
            self.wait_or_kill(time.monotonic() + _PATIENCE_S)
            status = "interrupted" if was_interrupted else "failed"
            return Outcome(key, status, reason=_death(self.process.returncode), error="died")
        assert isinstance(outcome, Outcome)
        return outcome

    def tell_to_stop(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def interrupt(self) -> None:
        self.tell_to_stop()
        if self.job is not None and not self.job.can_stop:
            self.process.terminate()

    def wait_or_kill(self, deadline: float) -> None:
        """Wait for the end of the process until a time of `time.monotonic`, then kill it."""
        try:
            self.process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _started(command: Sequence[str], handles: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start a process that has these ends of pipes."""
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=handles)
    except OSError as error:
        got, next_step = first_line(error), "Use fewer --jobs, or raise the limit of processes: ulimit -u"
        raise MamlError("processes", expected="one more that can be started", got=got, next_step=next_step) from error


def _close(processes: Sequence[_Process], *, is_patient: bool = True) -> None:
    """End processes: asked first, then killed, all at the same time."""
    deadline = time.monotonic() + _PATIENCE_S
    try:
        for process in processes:
            process.tell_to_stop()
            if not is_patient:
                process.process.terminate()
        for process in processes:
            process.wait_or_kill(deadline)
    finally:
        for process in processes:
            if process.process.poll() is None:  # Ctrl-C once more
                process.process.kill()
            process.connection.close()
            process.lifeline.close()


def run_jobs(
    jobs: Sequence[Job],
    *,
    num_processes: int,
    max_attempts: int = 2,
    hopeless: Sequence[str] = (),
    deadline: float | None = None,
    on_start: Callable[[Job, int], None] | None = None,
    on_end: Callable[[Outcome], None] | None = None,
) -> dict[str, Outcome]:
    """Run jobs in processes and return the outcomes, by key, of those that began.

    Args:
        jobs: taken in this order, `num_processes` at a time.
        max_attempts: how often a job that fails is tried, each time in a new process; the others go on.
        hopeless: names of the errors that come again however often a job is tried, whatever the process.
        deadline: no job begins after it, on the clock of `time.monotonic`; those at work then end as they would.
        on_start, on_end: called with a job and the id of its process each time it begins; with its outcome, once.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the processes have stopped, each as its job does.
    """
    queue = deque((job, 1) for job in jobs)
    by_key = {job.key: job for job in jobs}
    outcomes: dict[str, Outcome] = {}
    processes: list[_Process] = []
    is_clean = False
    with interruption_flag() as is_interrupted:
        try:
            while queue or any(process.job for process in processes):
                if is_interrupted():
                    _stop_all(queue, processes)
                is_late = deadline is not None and time.monotonic() >= deadline
                if is_late:
                    queue.clear()
                _hand_out(queue, processes, num_processes, on_start)
                for process in _finished(processes):
                    outcome = process.finish(was_interrupted=is_interrupted())
                    can_retry = outcome.status == "failed" and outcome.error not in hopeless
                    if can_retry:
                        processes.remove(process)  # whatever made it fail may still be in its memory
                        _close([process])
                    if can_retry and outcome.attempts < max_attempts and not is_late:
                        queue.append((by_key[outcome.key], outcome.attempts + 1))
                        continue
                    outcomes[outcome.key] = outcome
                    if on_end:
                        on_end(outcome)
            is_clean = True
        finally:
            _close(processes, is_patient=is_clean)
        if is_interrupted():
            raise Interrupted("interrupted")
    return outcomes


def _stop_all(queue: deque[tuple[Job, int]], processes: list[_Process]) -> None:
    """Begin no more jobs, and tell those that run to stop."""
    queue.clear()
    for process in processes:
        process.interrupt()


def _hand_out(
    queue: deque[tuple[Job, int]],
    processes: list[_Process],
    num_processes: int,
    on_start: Callable[[Job, int], None] | None,
) -> None:
    """Give the next jobs to processes that have none, and start processes as long as there may be more."""
    while queue:
        process = next((process for process in processes if process.job is None), None)
        if process is None:
            if len(processes) >= num_processes:
                return
            process = _Process()
            processes.append(process)
        job, attempt = queue.popleft()
        process.begin(job, attempt)
        if on_start:
            on_start(job, process.process.pid or 0)


def _finished(processes: list[_Process]) -> list[_Process]:
    """Return the processes whose jobs have ended; wait a moment for the first."""
    busy = {process.connection: process for process in processes if process.job is not None}
    return [busy[ready] for ready in wait(list(busy), _POLL_S) if isinstance(ready, Connection)]


def _death(exit_code: int | None) -> str:
    """Return in words how a process ended that sent no outcome."""
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", most often by the system for lack of memory" if name == "SIGKILL" else ""
        return f"its process was killed ({name}{hint})"
    return f"its process ended without a word (exit code {exit_code})"


# In a process of the pool --------------------------------------------------------------------------------------


def work(handle: int, ends_with_parent: int) -> None:
    """Take jobs from one pipe until told to stop, or until the parent is gone and with it the other pipe."""
    connection: Connection[Outcome, Job | None] = Connection(handle)
    end_after(Connection(ends_with_parent, writable=False).recv)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if job is None:
            return
        outcome = _outcome(job, connection.poll)
        try:
            connection.send(outcome)
        except OSError:
            return


def _outcome(job: Job, is_stopped: IsStopped) -> Outcome:
    try:
        return Outcome(job.key, "done", job.run(is_stopped))
    except (Interrupted, KeyboardInterrupt):
        return Outcome(job.key, "interrupted")
    except Exception as error:
        why = failure(error)
        return Outcome(job.key, "failed", reason=why["reason"], error=why["error"], details=why.get("details", ""))


def failure(error: BaseException) -> dict[str, str]:
    """Return why a job failed, by the names of the fields of `Outcome`: reason, error and, for a bug, details."""
    name = type(error).__name__
    if isinstance(error, MamlError):
        return {"reason": str(error), "error": name}
    text = (str(error).splitlines() or [""])[0]
    reason = f"{name}: {text}"
    if is_out_of_memory(error):
        reason = f"out of memory ({text or name}). Fewer --jobs, or a smaller execution.chunk, need less"
    elif told := environment_error(error):
        return {"reason": str(told), "error": name}
    return {"reason": reason, "error": name, "details": "".join(traceback.format_exception(error))}
