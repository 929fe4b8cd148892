"""`--workers` starts the workers of a run here, as processes of this machine, watches them and ends them together.

A worker finds its place in the environment variables that torchrun sets, too, and does not care who started it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.lifeline import EXIT_LOST, PATIENCE_S, end_after
from mamlcli.common.processes.signals import signals_handled
from mamlcli.common.words import first_line

# Names of the variables that workers started here have: the file where they meet, in the place of an address, and
# a pipe that ends with the parent.
RENDEZVOUS, LIFELINE = "MAMLCLI_RENDEZVOUS", "MAMLCLI_LIFELINE"

# How often the parent looks at its workers.
_POLL_S = 0.05

# Said of a run whose worker 0, which knows its place, is lost.
_GO_ON = "The run goes on from its last checkpoint with --resume."

# Lines of a worker's own words that are shown.
_NUM_LAST_WORDS = 12


def end_with_parent(environment: Mapping[str, str]) -> None:
    """Stop this process once the parent that started it as a worker is gone, however the parent ended."""
    if LIFELINE not in environment:
        return
    pipe = int(environment[LIFELINE])
    meeting_place = Path(environment[RENDEZVOUS]).parent
    # Nothing is ever written: reading ends when the parent's end is closed.
    end_after(lambda: os.read(pipe, 1), lambda: shutil.rmtree(meeting_place, ignore_errors=True))


# In the parent ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """Says how the workers of a run ended.

    Attributes:
        code: the exit code of the run.
        problems: lines that name the worker at fault; empty where worker 0 has said what there is to say.
    """

    code: int
    problems: tuple[str, ...] = ()


class _Worker:
    """Holds the process of a worker and the file of what it says; worker 0 writes to the terminal."""

    def __init__(self, rank: int, command: Sequence[str], environment: Mapping[str, str], log: Path, pipe: int) -> None:
        self.rank, self.log = rank, log
        self.is_killed_here = False
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                env=dict(environment) | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=None if rank == 0 else subprocess.DEVNULL,
                stdout=None if rank == 0 else stream,
                stderr=None if rank == 0 else stream,
                pass_fds=(pipe,),
            )

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def is_at_fault(self) -> bool:
        """Return whether it failed by itself: not told to stop, not killed here, not for the loss of another."""
        return not self.is_killed_here and self.process.poll() not in (None, 0, EXIT_LOST, 130)

    def stop(self) -> None:
        if self.is_alive:
            self.process.terminate()

    def kill(self) -> None:
        if self.is_alive:
            self.is_killed_here = True
            self.process.kill()
            self.process.wait()

    def problems(self) -> Iterator[str]:
        """Yield the lines that say how a worker at fault ended."""
        code = self.process.returncode
        if code < 0:
            name = signal.Signals(-code).name
            hint = ", most often by the system for lack of memory" if name == "SIGKILL" else ""
            yield f"worker {self.rank}: expected it to work to the end of the run, got killed ({name}{hint})."
        words = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.rank else []
        if code > 0 and self.rank and not words:
            yield f"worker {self.rank}: expected it to work to the end of the run, got exit code {code} without a word."
        for line in words[-_NUM_LAST_WORDS:]:
            yield f"worker {self.rank}: {line.removeprefix('error: ')}"


def run_workers(num_workers: int, command: Sequence[str]) -> Ending:
    """Run a command as several workers of one run, processes of this machine, and wait for their end.

    The first SIGINT or SIGTERM is handed on, once, and ends the run as it ends one of a single process; the second
    kills. If a worker dies, the others end too. No worker outlives this process, however it ends.

    Args:
        num_workers: processes.
        command: program and arguments; each process finds its place in its environment, as `place_in` reads it.
    """
    with _meeting_place() as folder, _lifeline() as pipe, signals_handled() as received:
        environment = {
            **_loopback(),
            **os.environ,
            "WORLD_SIZE": str(num_workers),
            RENDEZVOUS: str(Path(folder) / "rendezvous"),
            LIFELINE: str(pipe),
        }
        workers: list[_Worker] = []
        try:
            for rank in range(num_workers):
                workers.append(_Worker(rank, command, environment, Path(folder) / f"{rank}.log", pipe))
            _watch(workers, received)
        except OSError as error:
            expected, next_step = f"{num_workers} processes that can be started", "Use fewer, or raise: ulimit -u"
            raise MamlError("--workers", expected=expected, got=first_line(error), next_step=next_step) from error
        finally:
            for worker in workers:
                worker.kill()
        return _ending(workers, is_stopped=bool(received))


def _meeting_place() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="mamlcli-")
    except OSError as error:
        raise MamlError(
            "--workers",
            expected="a folder for temporary files that can be written",
            got=first_line(error),
            next_step="Set TMPDIR to a folder of yours",
        ) from error


def _watch(workers: Sequence[_Worker], received: Sequence[int]) -> None:
    """Wait until all workers have ended; return early where some have to be killed."""
    has_stopped_them, deadline = False, None
    while any(worker.is_alive for worker in workers):
        if len(received) > 1:
            return
        if received and not has_stopped_them:
            has_stopped_them = True
            for worker in workers:
                worker.stop()
        if deadline is None and (not workers[0].is_alive or any(w.process.poll() for w in workers)):
            deadline = time.monotonic() + PATIENCE_S
        if deadline is not None and time.monotonic() > deadline:
            return
        time.sleep(_POLL_S)


def _ending(workers: Sequence[_Worker], *, is_stopped: bool) -> Ending:
    """Return how the run ended, by the worker that is the cause."""
    code: int = workers[0].process.returncode
    if is_stopped:
        return Ending(0 if code == 0 else 130)
    at_fault = [worker for worker in workers if worker.is_at_fault]
    # A killed worker is the cause of whatever the others have to say, and worker 0 speaks of its own.
    for worker in sorted(at_fault, key=lambda worker: (worker.process.returncode > 0, worker.rank == 0)):
        return Ending(max(worker.process.returncode, 1), tuple(worker.problems()))
    if workers[0].is_killed_here:
        return Ending(1, (f"worker 0: expected it to end with the others, got no answer from it. {_GO_ON}",))
    return Ending(code)


@contextmanager
def _lifeline() -> Iterator[int]:
    """Yield the end of a pipe that the workers read: they learn from it that this process is gone."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def _loopback() -> dict[str, str]:
    """Return the variable that keeps gloo's traffic inside this machine, whatever its name resolves to."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    return {"GLOO_SOCKET_IFNAME": names[0]} if names else {}
