"""Standard output and error can always be written to: in any encoding, closed, or with a reader that has left."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import unicodedata
from typing import TextIO

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
        os.execv(sys.executable, [sys.executable, "-X", "utf8=1", "-m", "mamlcli", *sys.argv[1:]])


def give_up() -> None:
    """Let what is still to be written to standard output and error vanish: their reader has left."""
    for number in (1, 2):
        _open_null(number)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


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
