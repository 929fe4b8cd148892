"""The errors a user can cause, and how they are worded.

Every message has one form, `<where>: expected <what>, got <repr>. <Why.> <Next command.>`, so that a person
who reads it knows what to change and what to type next.
"""

from __future__ import annotations


class MamlError(Exception):
    """A mistake in the user's input or environment; shown as one line, exit code 1.

    Args:
        where: the place of the mistake: a file, a recipe key, a command-line option.
        expected: what would have been right, as in "an integer >= 1".
        got: what was found, already formatted; left out of the message if None.
        why: the reason, one sentence, if it is not obvious.
        next_step: what to do now, ideally a command.
    """

    def __init__(
        self,
        where: str,
        *,
        expected: str,
        got: str | None = None,
        why: str | None = None,
        next_step: str | None = None,
    ) -> None:
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
            message += f" {next_step.rstrip('.')}."
        super().__init__(message)


class RecipeError(MamlError):
    """A recipe that cannot be read, or keys in it that are wrong.

    Holds every problem of the file: `problems` is a list of finished lines, one for each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        Exception.__init__(self, "\n".join(problems))


class DataError(MamlError):
    """A data source that is missing, damaged, or too small for what was asked of it."""


class DeviceError(MamlError):
    """A device that this machine does not have."""


class RunError(MamlError):
    """A run directory that is missing, in use, or not what the command needs."""


class WorkerError(RunError):
    """Another worker of the run has ended or cannot be reached."""


class Interrupted(Exception):
    """SIGINT or SIGTERM came; what was done is saved, and the message says how to go on. Exit code 130."""


class NonFiniteError(MamlError):
    """A loss, meta-gradient or parameter that is infinite or not a number; training stops."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, of the machine or of a GPU; told by name and text, so that no torch is needed."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator" in str(error)
    )
