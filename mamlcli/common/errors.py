"""The errors that a user can cause are named and worded here.

Every message has one form, `<where>: expected <what>, got <repr>. <Why.> <Next command.>`, so that a person
who reads it knows what to change and what to type next.
"""

from __future__ import annotations

import re

from mamlcli.common.words import one_line


class MamlError(Exception):
    """Raised for a mistake in the user's input or environment; it is shown as one line, the exit code is 1.

    Args:
        where: the place of the mistake: a file, a recipe key, a command-line option.
        expected: what would have been right, as in "an integer >= 1".
        got: what was found, already formatted; left out of the message if None.
        why: the reason, one sentence, if it is not obvious.
        next_step: what to do now, ideally a command; one after a colon ends the message, without a full stop, so that
            it can be copied to the end.

    Attributes:
        changes: words KEY=VALUE with which the same command works; the command line shows it with them.
    """

    changes: tuple[str, ...] = ()

    def __init__(
        self,
        where: str,
        *,
        expected: str,
        got: str | None = None,
        why: str | None = None,
        next_step: str | None = None,
    ) -> None:
        where, expected = one_line(where), one_line(expected)
        got, why, next_step = (None if part is None else one_line(part) for part in (got, why, next_step))
        self.where = where
        self.expected = expected
        self.got = got
        self.why = why
        self.next_step = next_step
        message = f"{where}: expected {expected}"
        if got is not None:
            message += f", got {got}"
        message += "."
        if why:
            message += f" {why.rstrip('.')}" + ("" if why.endswith("?") else ".")
        if next_step:
            message += f" {next_step}" if ": mamlcli " in next_step else f" {next_step.rstrip('.')}."
        super().__init__(message)


class RecipeError(MamlError):
    """Raised for a recipe that cannot be read, or has wrong keys.

    It holds every problem of the file: `problems` is a list of finished lines, one for each.
    """

    def __init__(self, problems: list[str]) -> None:
        # No full stop after a command, so that it can be copied to the end.
        self.problems = [re.sub(r"(: mamlcli [^:]*)\.$", r"\1", one_line(problem)) for problem in problems]
        Exception.__init__(self, "\n".join(self.problems))


class DataError(MamlError):
    """Raised for a data source that is missing, damaged, or too small for what was asked of it."""


class DeviceError(MamlError):
    """Raised for a device that this machine does not have."""


class RunError(MamlError):
    """Raised for a run directory that is missing, in use, or not what the command needs."""


class TakenError(RunError):
    """Raised for the folder of a run that another process works on, or has made just now."""


class WorkerError(RunError):
    """Raised where another worker of the run has ended or cannot be reached."""


class Interrupted(Exception):
    """Raised after SIGINT or SIGTERM: what was done is saved, the message says how to go on, the exit code is 130."""


class NonFiniteError(MamlError):
    """Raised where a loss, meta-gradient or parameter is infinite or not a number; training stops."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the machine or a GPU ran out of memory.

    The error is known by its name and text, so that torch need not be loaded.
    """
    words = ("DefaultCPUAllocator", "bad_alloc", "Storage size calculation overflowed", "MPS backend out of memory")
    is_named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_named or any(word in str(error) for word in words)


def is_missing_on_mps(error: BaseException) -> bool:
    """Return whether an error says that torch has an operation or a type not on mps, the GPU of a Mac."""
    text = str(error)
    return isinstance(error, NotImplementedError | TypeError | RuntimeError) and any(
        words in text for words in ("for the MPS device", "MPS framework", "on MPS", "MPS device does not")
    )
