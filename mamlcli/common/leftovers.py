"""What a killed process leaves is taken away here: temporary files of writes, folders of things unpacked.

A process that writes a temporary file, or fills a temporary folder, holds a lock of the system on it (flock), which
ends with the process, however that ends. So what nobody holds is left over. Where a file system has no such locks, age
tells.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

# .NAME.XXXXXXXX.partial
_PARTIAL = re.compile(r"\..+\.[A-Za-z0-9_]{8}\.partial", re.DOTALL)
_MAX_NAME_BYTES = 200  # of 255, so that the temporary name of a long name is not too long

# Earlier versions held nothing: what they write at this moment is newer than this.
_MINUTES_S = 600.0

_DAY_S = 86400.0

# A file is opened to look at it only; a link is not followed, and a pipe does not make us wait.
_LOOK = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def is_partial_name(name: str) -> bool:
    """Return whether a file's name is that of a temporary file of ours."""
    return _PARTIAL.fullmatch(name) is not None


def open_partial(path: Path) -> IO[bytes]:
    """Make and open the temporary file of a file that is to be written, beside it.

    It is as readable as any other file of the user: by the umask.
    """
    while True:
        stream = path.with_name(f"{_start(path.name)}{secrets.token_hex(4)}.partial").open("xb")
        # Whoever takes leftovers away may have met it before it was held.
        if _is_taken(stream.fileno()) is not False and os.path.lexists(stream.name):
            return stream
        stream.close()


def remove_leftovers(folder: Path, name: str | None = None, *, min_age_s: float = _MINUTES_S) -> None:
    """Take away the temporary files of killed writes in a folder; those of living processes stay.

    Args:
        folder: may be missing.
        name: of the one file whose temporary files are meant; by default of all.
        min_age_s: younger ones stay; 0 where no other process can be writing here.
    """
    start = "." if name is None else _start(name)
    for entry in _entries(folder):
        if entry.name.startswith(start) and is_partial_name(entry.name) and entry.is_file(follow_symlinks=False):
            _remove_if_left(entry.path, min_age_s)


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in `parent` that is removed at the end, as those are that killed processes left there a day ago.

    Args:
        parent: made if it is missing.
        prefix: of the names of such folders, used for nothing else.

    Raises:
        OSError: `parent` cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for entry in _entries(parent):
        if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
            _remove_if_left(entry.path, _DAY_S)
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True)
        name = stack.enter_context(folder)
        with contextlib.suppress(OSError):
            handle = os.open(name, _LOOK)
            stack.callback(os.close, handle)
            _is_taken(handle)
        yield Path(name)


def _start(name: str) -> str:
    """Return how the names of temporary files of a file begin."""
    return f".{os.fsdecode(os.fsencode(name)[:_MAX_NAME_BYTES])}."


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _is_taken(handle: int, *, is_shared: bool = False) -> bool | None:
    """Hold an open file for this process; False: another one does, None: the file system has no locks."""
    if fcntl is None:  # pragma: no cover - Windows
        return None
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_if_left(path: str, min_age_s: float) -> None:
    """Remove a file or a folder that no process holds, and that is old enough to be told by that."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        age_s = time.time() - os.lstat(path).st_mtime
        handle = os.open(path, _LOOK) if fcntl is not None else None
        if handle is not None:
            stack.callback(os.close, handle)
        # A shared lock can be had by whoever may read, over a network, too; it keeps the writer's away as well.
        is_free = None if handle is None else _is_taken(handle, is_shared=True)
        if is_free is False or age_s < (_DAY_S if is_free is None else min_age_s):
            return
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
