"""The lock of a run: one process works on it at a time, and the lock's file says which.

The lock is one of the system, on the file `lock` in the run's folder; it ends with the process that holds it. Some file
systems have no locks (Lustre without the option flock, some network folders). There runs go on all the same, and two
processes at work on one run are not kept apart.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import stat
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from mamlcli.common.errors import RunError, TakenError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"

NO_LOCKS = "this file system has no locks: two processes at work on one run are not kept apart here"

_ELSEWHERE = "Name another --run-dir, on a disk that can lock files"
_ASKED_S = 0.05  # seconds to wait for a lock that is only looked at
_HOLDER_BYTES = 1024  # more than the record of a holder

# What flock says on a file system that has none, in place of whether it is held.
_HAS_NONE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)

# A link is not followed, and a pipe that stands there does not make us wait.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_held: set[int] = set()


@contextlib.contextmanager
def held_lock(folder: Path) -> Iterator[None]:
    """Hold a run for this process; the lock is released when the process ends, however it ends.

    Raises:
        TakenError: another process holds it; RunError: the lock's file cannot be opened, or is none.
    """
    if fcntl is None:  # pragma: no cover - Windows
        with _held_on_windows(folder):
            yield
        return
    handle = _taken(folder)
    _held.add(handle)
    try:
        _write_holder(handle)
        yield
    finally:
        _release(handle)


def is_lock_held(folder: Path) -> bool | None:
    """Return whether a process works on a run, that is, holds its lock.

    None if that cannot be known, as where there are no locks. The file of the lock is not changed; where there is
    flock, looking needs no right to write, and disturbs no one else who looks.
    """
    path = folder / LOCK
    if fcntl is None:  # pragma: no cover - Windows
        return _is_held_on_windows(path)
    try:
        handle = os.open(path, os.O_RDONLY | _SAFELY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def taken_error(folder: Path) -> TakenError:
    """Return the error that another process works on a run, with who that is, where its lock says so."""
    who, next_step = "", "Wait for it to end, or stop it"
    with contextlib.suppress(OSError):
        handle = os.open(folder / LOCK, os.O_RDONLY | _SAFELY)
        try:
            who, next_step = _holder_words(os.read(handle, _HOLDER_BYTES), next_step)
        finally:
            os.close(handle)
    got = f"one in use{who}"
    return TakenError(str(folder), expected="a run that no other process works on", got=got, next_step=next_step)


def _taken(folder: Path) -> int:
    """Open and lock the file of a run's lock; return its handle."""
    path = folder / LOCK
    deadline = time.monotonic() + _ASKED_S
    while True:
        handle = _opened(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            # Whoever asks whether the run is held has the lock for less than this.
            if time.monotonic() > deadline:
                raise taken_error(folder) from error
            time.sleep(_ASKED_S / 5)
            continue
        except OSError as error:
            if error.errno in _HAS_NONE:
                return handle
            os.close(handle)
            _refuse(path, got=error.strerror, why=None, error=error)
        if _is_there(path, handle):
            return handle
        os.close(handle)  # another process has removed the folder, and maybe made it again


def _opened(path: Path) -> int:
    """Open the file of a lock, which is made if it is missing."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o666)
    except OSError as error:
        is_link = path.is_symlink()
        got = f"a link to {os.readlink(path)}" if is_link else error.strerror
        _refuse(path, got=got, why="Nothing is written through a link in a run" if is_link else None, error=error)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        _refuse(path, got="something else than a file", why=None)
    return handle


def _refuse(path: Path, *, got: str | None, why: str | None, error: OSError | None = None) -> NoReturn:
    next_step = "Delete the link" if why else _ELSEWHERE
    raise RunError(str(path), expected="a file that can be locked", got=got, why=why, next_step=next_step) from error


def _is_there(path: Path, handle: int) -> bool:
    """Return whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except OSError:
        return False


# Who holds it ------------------------------------------------------------------------------------------------------


def _write_holder(handle: int) -> None:
    """Write to the lock's file who holds it; it is for people alone, so that a full disk does not matter."""
    if os.fstat(handle).st_nlink == 1:  # no other name of a file that is not the run's
        holder = json.dumps(
            {
                "pid": os.getpid(),
                "host": platform.node(),
                "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
        )
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{holder}\n".encode(), 0)


def _holder_words(content: bytes, next_step: str) -> tuple[str, str]:
    """Return who holds a lock, in words, and what to do; nothing is said of a process that is not there any more."""
    try:
        holder = json.loads(content)
        pid, host, since = int(holder["pid"]), str(holder["host"]), str(holder["since"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "", next_step  # an earlier version wrote nothing
    if host == platform.node():
        return (f" by process {pid} since {since}", f"{next_step}: kill {pid}") if _is_alive(pid) else ("", next_step)
    return f" by process {pid} on {host} since {since}", next_step


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return pid > 0


def _release(handle: int) -> None:
    """Let go of a lock; no one's name stays in its file."""
    if handle not in _held:  # a process that was forked holds nothing
        return
    _held.discard(handle)
    with contextlib.suppress(OSError):
        if os.fstat(handle).st_nlink == 1:
            os.ftruncate(handle, 0)
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


def _close_all() -> None:
    """Close in a forked process what its parent holds, or the lock would outlive the parent."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


# Windows -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _held_on_windows(folder: Path) -> Iterator[None]:  # pragma: no cover
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=_ASKED_S, poll_interval=_ASKED_S / 5)
    except Timeout as error:
        raise taken_error(folder) from error
    except (OSError, NotImplementedError) as error:
        got = getattr(error, "strerror", None) or str(error)
        raise RunError(str(folder), expected="a file that can be locked", got=got, next_step=_ELSEWHERE) from error
    try:
        yield
    finally:
        lock.release()


def _is_held_on_windows(path: Path) -> bool | None:  # pragma: no cover
    from filelock import FileLock, Timeout

    if not path.is_file():
        return False
    try:
        with FileLock(path).acquire(timeout=_ASKED_S, poll_interval=_ASKED_S / 5):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return None
