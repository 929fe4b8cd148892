"""What the system refuses, such as room on a full disk, becomes an error that says what to free or to change.

One place for all commands: `environment_error` words it, where a run, a job of a study or the command line ends by it.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mamlcli.common.errors import MamlError, RunError
from mamlcli.common.words import first_line, printable


class EnvironmentFault(MamlError):
    """Raised where the system refuses what a command needs: room, a file, a right. No mistake in a recipe, no bug."""


@dataclass(frozen=True)
class _Refusal:
    """What was expected of the system that refused; in `remedy` {folder} is that of the file, quoted for a shell."""

    expected: str
    remedy: str
    why: str | None = None


_REFUSALS = {
    errno.ENOSPC: _Refusal("room on the disk", "Free some of the disk of {folder}, which df shows"),
    errno.EDQUOT: _Refusal("room within your quota", "Free some of what is yours on the disk of {folder}"),
    errno.EFBIG: _Refusal(
        "a file that may grow", "Raise it, as in: ulimit -f unlimited", "A limit on the size of files is reached"
    ),
    errno.EROFS: _Refusal("a disk that can be written to", "Name another folder, or have this one made writable"),
    errno.EACCES: _Refusal("a file that you have the right to use", "Change its rights, or name another folder"),
    errno.EPERM: _Refusal("a file that you have the right to use", "Change its rights, or name another folder"),
    errno.EIO: _Refusal("a disk that answers", "Look whether the disk of {folder} is well and connected"),
    errno.ESTALE: _Refusal("a disk that answers", "Look whether the disk of {folder} is well and connected"),
    errno.EMFILE: _Refusal("fewer open files than the limit", "Raise it, as in: ulimit -n 4096"),
    errno.ENFILE: _Refusal("fewer open files than the limit", "Close other programs, and run it again"),
    errno.EAGAIN: _Refusal("room for another process", "Close other programs, or raise the limit: ulimit -u"),
    errno.ENOMEM: _Refusal("enough memory", "Close other programs, or ask for fewer processes"),
    errno.ENOLCK: _Refusal("a disk that can lock files", "Name a folder on another disk"),
}

_OTHER = _Refusal("a file that can be used", "See what is there: ls -la {folder}")
# The place could be written, if the machine had what it takes.
_NO_FAULT_OF_THE_PLACE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
)

_GONE = _Refusal("a folder that is there as long as it is used", "Do not move or delete {folder} while it is in use")


def environment_error(error: BaseException, *, next_step: str | None = None) -> EnvironmentFault | None:
    """Return in words what the system refused; None for an error that is not of the environment.

    Args:
        error: any exception.
        next_step: what to do once that is mended.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return None
    place = error.filename2 if error.filename2 is not None else error.filename
    path = None if place is None or isinstance(place, int) else Path(os.fsdecode(place))
    if path is None and error.errno not in _REFUSALS:
        return None  # a broken pipe between processes, and the like
    folder = (path if path is None or os.path.isdir(path) else path.parent) or Path()
    is_gone = error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(folder)
    refusal = _GONE if is_gone else _REFUSALS.get(error.errno, _OTHER)
    remedy = refusal.remedy.format(folder=shlex.quote(printable(folder)))
    return EnvironmentFault(
        "disk" if path is None else printable(path),
        expected=refusal.expected,
        got=_strerror(error),
        why=refusal.why,
        next_step=f"{remedy}. {next_step}" if next_step else remedy,
    )


def write_error(
    error: OSError, where: str, *, expected: str, next_step: str | None = None, kind: type[MamlError] = RunError
) -> MamlError:
    """Return the error for a place that was named and cannot be written; of a full disk it says what to free.

    Args:
        error: of the system.
        where: the place.
        expected, next_step: what is said where the place itself is the trouble.
        kind: the class of the error.
    """
    got = _strerror(error)
    if error.filename is None and error.errno is not None:
        error.filename = where
    told = environment_error(error) if error.errno in _NO_FAULT_OF_THE_PLACE else None
    if told is None:
        return kind(where, expected=expected, got=got, next_step=next_step)
    return kind(where, expected=told.expected, got=told.got, why=told.why, next_step=told.next_step)


def _strerror(error: OSError) -> str:
    return first_line(error) if not error.strerror else f"{error.strerror[:1].lower()}{error.strerror[1:]}"


# The file that an error is about ---------------------------------------------------------------------------------


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system in the block name this file: of a full disk Python does not say which.

    Args:
        path: the file, in the place of a temporary one as well.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
            del error.filename2  # None would be shown as "-> None"
        raise
