"""Standard output and error can always be written to: in any encoding, closed, or with a reader that has left.

What goes to standard error is said beside the work, and never ends it: where it cannot be written, as on a full disk or
a terminal that was closed, it is dropped. A result that cannot be written is an error that says so.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import stat
import sys
import unicodedata
from collections.abc import Callable
from typing import IO, TextIO, cast

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.fresh import program

# Signs of our own texts, for encodings that lack them; every other character is written as its escape, \xfc.
_PLAIN = {
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MIDDLE DOT}": ".",
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-",
    "\N{BOX DRAWINGS HEAVY HORIZONTAL}": "-",
    "\N{FULL BLOCK}": "#",
    # The bars of a curve in one line, by height.
    **{chr(0x2581 + height): str(height + 1) for height in range(7)},
}

_ERRORS = "mamlcli.plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the characters that an encoding lacks, as codecs want it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char) or _escape(char) for char in text), error.end


def _escape(char: str) -> str:
    if unicodedata.category(char) == "Zs":
        return " "
    return char.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(_ERRORS, _plain)


def make_writable() -> None:
    """Make standard output and error take any text; where one is closed, what goes there is dropped.

    A closed descriptor is opened on the null device, so that no file that is opened later takes its number and
    gets what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _open_null(number)
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    for stream in (sys.stdout, sys.stderr):
        # A stream that another program put here may have no encoding to speak of.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors=_ERRORS)


def read_names_as_utf8() -> None:
    """Start this process again in Python's UTF-8 mode, where it reads file names and arguments in another encoding.

    Such a place is LC_ALL=C without that mode: a folder `fünf` could then be opened but not written down. What is
    printed keeps its encoding. (On Windows names are Unicode.)
    """
    if sys.getfilesystemencoding().lower().replace("-", "") != "utf8":
        os.environ.setdefault("PYTHONIOENCODING", getattr(sys.stdout, "encoding", None) or "ascii")
        os.environ["PYTHONUTF8"] = "1"
        python, *words = program(*sys.argv[1:])
        os.execv(python, [python, "-X", "utf8=1", *words])


def give_up() -> None:
    """Let what is still to be written to standard output and error vanish: their reader has left."""
    for number in (1, 2):
        _open_null(number)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


class _Guarded:
    """A stream that hands what goes wrong in writing to a function; all else is as the stream has it."""

    def __init__(self, stream: IO[str], failed: Callable[[IO[str], Exception], None]) -> None:
        self._stream, self._failed = stream, failed

    def write(self, text: str) -> int:
        """Write a text."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write out what is buffered."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self._failed(self._stream, error)


def dropping(stream: IO[str]) -> IO[str]:
    """Return a stream that drops what it cannot write."""
    return cast(IO[str], _Guarded(stream, lambda stream, error: None))


def telling(stream: IO[str]) -> IO[str]:
    """Return a stream of results: MamlError where one cannot be written.

    BrokenPipeError where its reader has left, or the terminal was closed.
    """
    return cast(IO[str], _Guarded(stream, _tell))


def _tell(stream: IO[str], error: Exception) -> None:
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
        raise error
    if error.errno == errno.EIO and _is_device(stream):
        raise BrokenPipeError(*error.args) from error  # a terminal that was closed: there is nobody to tell
    with contextlib.suppress(OSError, ValueError):  # or the rest in its buffer would fail again at the end
        _open_null(stream.fileno())
    raise MamlError(
        "standard output",
        expected="a place that takes the result",
        got=(error.strerror or str(error)).lower(),
        why="What a run has done is kept in its folder",
        next_step="Free some of the disk of the output, or send it elsewhere, and run it again",
    ) from error


def _is_device(stream: IO[str]) -> bool:
    try:
        return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def is_unicode(stream: TextIO) -> bool:
    """Return whether a stream's encoding has every character."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-").startswith("utf")


def can_write(text: str, stream: TextIO) -> bool:
    """Return whether a stream's encoding has every character of a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _open_null(number: int) -> None:
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # open as long as the process
