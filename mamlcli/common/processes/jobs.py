"""A job is one piece of work for a process, and an outcome says how it ended.

A job may pass through a process that is to load nothing of what it needs, as that between a cluster and a child: it is
packed then, and only the child unpacks it.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, cast

from mamlcli.common.disk import environment_error
from mamlcli.common.errors import MamlError, is_out_of_memory

IsStopped = Callable[[], bool]

# A function whose payload is of whatever type; NoReturn, as the type of an argument, admits them all.
JobFunction = Callable[[NoReturn, IsStopped], object]

# What stands in the place of an exception's name where a process ended without a word, and where the machine that it
# ran on is gone, or told it to leave.
DIED, LOST = "died", "lost"


@dataclass(frozen=True)
class Job:
    """Holds one piece of work for a process.

    Attributes:
        key: its name, unique among the jobs.
        function: a function of a module, called with the payload and a function that says whether to stop; it
            raises `Interrupted` once it has stopped. What it takes and returns is pickled.
        payload: what the function takes.
        can_stop: whether the function asks if it is to stop; if not, an interruption ends its process.
        hopeless: names of the errors that come again however often it is tried, whatever the process.
    """

    key: str
    function: JobFunction
    payload: object
    can_stop: bool = True
    hopeless: Sequence[str] = ()

    def run(self, is_stopped: IsStopped) -> object:
        """Call the function in this process and return its value."""
        # The types of function and payload are those of whoever made the job; they are not known here.
        return self.function(cast(NoReturn, self.payload), is_stopped)

    def has_hope(self, outcome: Outcome) -> bool:
        """Return whether an outcome of it is a failure that another attempt may not have."""
        return outcome.status == "failed" and outcome.error not in self.hopeless


@dataclass(frozen=True)
class Outcome:
    """Says how a job ended.

    Attributes:
        key: of the job.
        status: "done", "failed" or "interrupted".
        value: what the function returned; None unless done.
        reason: why it failed, in words.
        error: the name of the exception's class, or "died" or "lost".
        details: the traceback, for errors that are not the user's.
        attempts: how often it was tried.
        wall_s: seconds of the last attempt.
        where: host and GPU of the last attempt; empty where that goes without saying.
    """

    key: str
    status: str
    value: object = None
    reason: str = ""
    error: str = ""
    details: str = ""
    attempts: int = 1
    wall_s: float = 0.0
    where: str = ""


def packed(job: Job) -> Job:
    """Return a job that is the same in other words: to read it, a process needs this file and no other of ours."""
    path = [entry for entry in sys.path if os.path.isabs(entry) and entry != os.getcwd()]
    return replace(job, function=run_packed, payload=(path, pickle.dumps(job)))


def run_packed(payload: tuple[Sequence[str], bytes], is_stopped: IsStopped) -> bytes:
    """Do a packed job in this process, with the packages of the process that packed it; return its value, packed."""
    path, content = payload
    sys.path += [entry for entry in path if entry not in sys.path]
    job = pickle.loads(content)
    assert isinstance(job, Job)
    return pickle.dumps(job.run(is_stopped))


def unpacked(outcome: Outcome) -> Outcome:
    """Return the outcome of a job from that of its packed form."""
    return replace(outcome, value=pickle.loads(outcome.value)) if isinstance(outcome.value, bytes) else outcome


def failed(key: str, error: BaseException) -> Outcome:
    """Return the outcome of a job that ended by an error."""
    why = failure(error)
    return Outcome(key, "failed", reason=why["reason"], error=why["error"], details=why.get("details", ""))


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
