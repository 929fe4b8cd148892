"""Kills this process at its n-th change of a file below a folder: a write, before it or in its middle, or a call below.

Every one of them is counted before it happens, so that a kill at point n finds the folder as after point n - 1.
"""

from __future__ import annotations

import builtins
import io
import os
import pathlib
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

# Functions of `os` that change files, with the number of the argument that names the file.
_CALLS = {
    "replace": 1,
    "rename": 1,
    "link": 1,
    "unlink": 0,
    "remove": 0,
    "rmdir": 0,
    "mkdir": 0,
    "chmod": 0,
    "fsync": 0,
}

# How processes that a command starts are told of it; `site/sitecustomize.py` reads these.
FOLDER, NUMBER, INNER, MARK = (f"SOAK_{word}" for word in ("FOLDER", "NUMBER", "INNER", "MARK"))


class Points:
    """Counts the points below a folder, and kills this process at one of them.

    Args:
        folder: changes elsewhere are no points.
        number: of the point to be killed at, from 1; 0 for none.
        note: called with every point's words; the last call comes before the kill.
    """

    def __init__(self, folder: Path, number: int, note: Callable[[str], object]) -> None:
        self._folder = os.path.realpath(folder)
        self._number, self._note, self._count = number, note, 0
        self._call = {name: getattr(os, name) for name in _CALLS}

    def install(self) -> None:
        """Put the counting functions in the places of those of `os`, and of `io.open`, which `os.fdopen` calls, too."""
        for name, place in _CALLS.items():
            setattr(os, name, self._counted(name, place))
        io.open = builtins.open = self._opened(io.open)  # type: ignore[assignment]
        patch_pathlib_of_3_10({**{name: getattr(os, name) for name in _CALLS}, "open": io.open})

    def reach(self, what: str, path: object) -> bool:
        """Count a point; return whether this process is to be killed at it."""
        name = _name_of(path)
        if name is None or not os.path.realpath(name).startswith(self._folder):
            return False
        self._count += 1
        short = os.path.relpath(name, self._folder)
        self._note(f"{self._count}: {what} {short}")
        return self._count == self._number

    def _counted(self, name: str, place: int) -> Callable[..., object]:
        function = self._call[name]

        def call(*args: object, **kwargs: object) -> object:
            if len(args) > place and self.reach(name, args[place]):
                kill()
            return function(*args, **kwargs)

        return call

    def _opened(self, function: Callable[..., object]) -> Callable[..., object]:
        def call(file: object, mode: str = "r", *args: object, **kwargs: object) -> object:
            stream = function(file, mode, *args, **kwargs)
            if mode[:1] in ("w", "a", "x") and hasattr(stream, "__dict__"):
                stream.write = self._torn(stream, file)  # type: ignore[attr-defined]
            return stream

        return call

    def _torn(self, stream: object, path: object) -> Callable[[str | bytes], int]:
        """Return the `write` of a stream, with a point before it and one where half of the data is written."""
        write: Callable[[str | bytes], int] = stream.write  # type: ignore[attr-defined]

        def call(data: str | bytes) -> int:
            if self.reach("write", path):
                kill()
            if self.reach("half of a write", path):
                write(data[: len(data) // 2])
                stream.flush()  # type: ignore[attr-defined]
                kill()
            return write(data)

        return call


def patch_pathlib_of_3_10(functions: Mapping[str, Callable[..., object]]) -> None:
    """Put functions in the places of those that pathlib of Python 3.10 took from `os` and `io` when it was imported."""
    accessor = getattr(pathlib, "_NormalAccessor", None)
    for name, function in functions.items():
        if hasattr(accessor, name):
            setattr(accessor, name, staticmethod(function))


def kill() -> None:
    """End this process as a machine without memory would."""
    os.kill(os.getpid(), signal.SIGKILL)


def _name_of(path: object) -> str | None:
    """Return the name of a file that a call names by path or by descriptor; None where it has none."""
    if not isinstance(path, int):
        return os.fsdecode(path)  # type: ignore[arg-type]
    try:
        return os.readlink(f"/proc/self/fd/{path}")
    except OSError:
        return None


def install_from_environment() -> None:
    """Kill this process as the environment says; where it is for the inner ones, not the process that was started."""
    if FOLDER not in os.environ:
        return
    is_inner, wants_inner = INNER in os.environ, os.environ[INNER + "_ALONE"] == "1"
    os.environ[INNER] = "1"
    if is_inner == wants_inner:
        mark = Path(os.environ[MARK])
        number = int(os.environ[NUMBER])

        def note(words: str) -> None:
            if words.startswith(f"{number}:"):
                mark.write_bytes(words.encode())

        Points(Path(os.environ[FOLDER]), number, note).install()
