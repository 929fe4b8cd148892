"""Files from elsewhere are opened and measured here: regular files alone, no more bytes than they may have.

A pipe would let the program wait without end, a device would give bytes without end, and a few kilobytes that are
packed well unfold to gigabytes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from mamlcli.common.errors import MamlError

# What any file may unfold to: this much, and this many times its own size. Photographs and drawings are packed 3 to 30
# times; a file that is made to fill the memory, 1,000 times.
_ALWAYS_BYTES = 256 * 2**20
_RATIO = 100


class BoundError(ValueError):
    """Raised for a file that is no regular file, or has or holds more bytes than it may; its text says what it is."""


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file to read its bytes; a link to one is followed, and nothing else is waited for.

    Raises:
        BoundError: it is a folder, a pipe, a device or a socket; OSError: it cannot be opened.
    """
    # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BoundError(kind_of_file(os.fstat(handle).st_mode))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path | str, *, at_most: int) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        BoundError: as `open_regular`, or it has more bytes than `at_most`; OSError: it cannot be read.
    """
    with open_regular(path) as stream:
        # A buffer of the largest size would take longer than reading what is there.
        data = stream.read(min(at_most, os.fstat(stream.fileno()).st_size) + 1)
    if len(data) > at_most:
        raise BoundError(f"a file of more than {at_most:,} bytes")
    return data


def kind_of_file(mode: int) -> str:
    """Return in words what an entry of a folder is that is no regular file, by its mode as `os.stat` has it."""
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((words for is_kind, words in kinds if is_kind(mode)), "a device")


def refuse_unfolding(num_bytes: int, of_file: int, *, always: int = _ALWAYS_BYTES) -> None:
    """Raise BoundError where what a file unfolds to is out of all proportion to the file.

    Args:
        num_bytes: what it takes in memory, all copies together.
        of_file: the size of the file.
        always: what any file may unfold to.
    """
    most = always + _RATIO * of_file
    if num_bytes > most:
        raise BoundError(f"{of_file:,} bytes that unfold to {num_bytes:,}, more than {most:,}")


def check_memory(num_bytes: int, of_what: str, next_step: str | None = None) -> None:
    """Raise MamlError where something needs more memory than the machine has, before any of it is taken."""
    here = memory_bytes()
    if here is not None and num_bytes > here:
        expected = f"a machine with the memory for {of_what}, {num_bytes / 1e9:,.1f} GB"
        raise MamlError("memory", expected=expected, got=f"{here / 1e9:,.1f} GB", next_step=next_step)


def memory_bytes() -> int | None:
    """Return the memory that this process may have at most: the machine's, or its container's; None if not known."""
    known = [size for size in (_of_machine(), *map(_of_group, _GROUP_FILES)) if size]
    return min(known, default=None)


# Version 2 and version 1 of Linux's control groups, by which containers are given their memory.
_GROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _of_machine() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _of_group(file: str) -> int | None:
    try:
        return int(Path(file).read_text(encoding="ascii"))
    except (OSError, ValueError):  # there is none, or it says "max"
        return None
