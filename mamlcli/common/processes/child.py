"""A child is a process that takes job after job from its parent; it can be killed at any moment and no one else waits.

It is a fresh Python with its own CUDA context, and imports torch once for all its jobs. It shares pipes with its parent
and no lock. While a job runs, the only thing that can arrive in its pipe is the word to stop, or the end of the parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe

from mamlcli.common.errors import Interrupted, MamlError
from mamlcli.common.processes.fresh import fresh_python
from mamlcli.common.processes.jobs import DIED, IsStopped, Job, Outcome, failed
from mamlcli.common.processes.lifeline import end_after
from mamlcli.common.processes.signals import left_to_parent
from mamlcli.common.words import first_line

# How long a process may take to end when asked, before it is killed.
_PATIENCE_S = 10.0


class Child:
    """Holds a process, the parent's end of its pipe, and the job it has.

    Args:
        environment: variables that are otherwise in the process than in this one; None for those that it lacks.
        folder: where it works; by default where this process does.
    """

    def __init__(self, environment: Mapping[str, str | None] | None = None, folder: str | None = None) -> None:
        self.environment, self.folder = dict(environment or {}), folder
        self.connection, theirs = Pipe()
        # Nothing is sent through it: it tells the process of this one's end while a job is at work.
        ends_with_parent, self.lifeline = Pipe(duplex=False)
        handles = (theirs.fileno(), ends_with_parent.fileno())
        code = f"from {__name__} import work\nwork{handles}"
        with left_to_parent(), theirs, ends_with_parent:
            self.process = _started(fresh_python(code), handles, self.environment, folder)
        # Theirs are closed here now, or the death of the process would not close the pipe.
        self.job: Job | None = None
        self.began = 0.0

    def begin(self, job: Job) -> None:
        """Give it a job; it has none."""
        self.job, self.began = job, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has died already; `finish` will see that
            self.connection.send(job)

    def finish(self, *, was_interrupted: bool) -> Outcome:
        """Wait for the end of the job and return how it ended; the process has none after that.

        A job may end as interrupted by a signal to its process alone; unless the parent was interrupted too, that
        is a death like any other.
        """
        assert self.job is not None
        outcome = self._received(self.job.key, was_interrupted=was_interrupted)
        if outcome.status == "interrupted" and not was_interrupted:  # not by the parent: as good as killed
            reason = "its process was told to stop (SIGTERM or SIGINT)"
            outcome = Outcome(self.job.key, "failed", reason=reason, error=DIED)
        self.job = None
        return replace(outcome, wall_s=time.monotonic() - self.began)

    def _received(self, key: str, *, was_interrupted: bool) -> Outcome:
        """Return the outcome that the process sends, or how the process died."""
        try:
            outcome = self.connection.recv()
        except (EOFError, OSError):
            self.wait_or_kill(time.monotonic() + _PATIENCE_S)
            status = "interrupted" if was_interrupted else "failed"
            return Outcome(key, status, reason=_death(self.process.returncode), error=DIED)
        assert isinstance(outcome, Outcome)
        return outcome

    def tell_to_stop(self) -> None:
        """Tell the job to stop, or the process to end where it has none."""
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def interrupt(self) -> None:
        """Stop the job; end the process where the job cannot be asked."""
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


def _started(
    command: Sequence[str], handles: Sequence[int], environment: Mapping[str, str | None], folder: str | None
) -> subprocess.Popen[bytes]:
    """Start a process that has these ends of pipes."""
    there = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=handles, env=there, cwd=folder)
    except OSError as error:
        got, next_step = first_line(error), "Use fewer --jobs, or raise the limit of processes: ulimit -u"
        raise MamlError("processes", expected="one more that can be started", got=got, next_step=next_step) from error


def close_children(children: Sequence[Child], *, is_patient: bool = True) -> None:
    """End processes: asked first, then killed, all at the same time."""
    deadline = time.monotonic() + _PATIENCE_S
    try:
        for child in children:
            child.tell_to_stop()
            if not is_patient:
                child.process.terminate()
        for child in children:
            child.wait_or_kill(deadline)
    finally:
        for child in children:
            if child.process.poll() is None:  # Ctrl-C once more
                child.process.kill()
            child.connection.close()
            child.lifeline.close()


def _death(exit_code: int | None) -> str:
    """Return in words how a process ended that sent no outcome."""
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", most often by the system for lack of memory" if name == "SIGKILL" else ""
        return f"its process was killed ({name}{hint})"
    return f"its process ended without a word (exit code {exit_code})"


# In the child ----------------------------------------------------------------------------------------------------


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
        return failed(job.key, error)
