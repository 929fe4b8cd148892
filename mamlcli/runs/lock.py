"""The lock of a run: one process works on it at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mamlcli.common.errors import RunError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"
_ELSEWHERE = "Name another --run-dir, on a disk that can lock files"
_ASKED_S = 0.05  # seconds to wait for a lock that is only looked at


@contextlib.contextmanager
def held_lock(folder: Path) -> Iterator[None]:
    """Hold a run for this process; the lock is released when the process ends, however it ends.

    Raises:
        RunError: another process holds it.
    """
    lock = FileLock(folder / _LOCK, thread_local=False)
    try:
        # Whoever asks whether the run is held has the lock for less than this.
        lock.acquire(timeout=_ASKED_S, poll_interval=_ASKED_S / 5)
    except Timeout as error:
        expected, next_step = "a run that no other process works on", "Wait for it to end, or stop it"
        raise RunError(str(folder), expected=expected, got="one in use", next_step=next_step) from error
    except (OSError, NotImplementedError) as error:
        got = getattr(error, "strerror", None) or str(error)
        raise RunError(
            str(lock.lock_file), expected="a file that can be locked", got=got, next_step=_ELSEWHERE
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_lock_held(folder: Path) -> bool | None:
    """Return whether a process works on a run, that is, holds its lock.

    None if that cannot be known. The file of the lock is not changed; where there is flock, looking needs no right to
    write, and disturbs no one else who looks.
    """
    path = folder / _LOCK
    if not path.is_file():
        return False
    if fcntl is not None:
        return _is_flocked(path)
    try:
        with FileLock(path).acquire(timeout=_ASKED_S, poll_interval=_ASKED_S / 5):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return None


def _is_flocked(path: Path) -> bool | None:
    """Return whether a process holds the flock that `FileLock` takes on POSIX systems."""
    try:
        with path.open(encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
