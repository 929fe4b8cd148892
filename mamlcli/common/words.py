"""Words of messages: text that can be printed, one line of an error, the nearest of some names."""

from __future__ import annotations

import difflib
import os
import reprlib
import unicodedata
from collections.abc import Iterable
from pathlib import Path

# torchvision's compiled parts belong to one build of torch.
TORCH_PAIR = "Install torch and torchvision together, from one index: https://pytorch.org/get-started/locally"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without its full stop."""
    return (str(error).splitlines() or ["no message"])[0].rstrip(".")


def one_line(text: str) -> str:
    """Return a text with every character that cannot be printed written out.

    These are line ends, tabs, escapes, and marks that turn the direction of text around. Spaces of other scripts, and
    the joiners that Persian, Hindi and emoji are written with, stay.
    """
    return text if text.isprintable() else "".join(map(_printed, text))


def _printed(char: str) -> str:
    is_shown = char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"
    return char if is_shown else char.encode("unicode_escape").decode("ascii")


_JOINERS = "\u200c\u200d"


class _Brief(reprlib.Repr):
    """Makes representations of a few hundred characters, however much there is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 300, 300
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 12

    def repr_int(self, x: int, level: int) -> str:
        """Return the digits of a number; of one with thousands, which Python does not write, how many there are."""
        return repr(x) if x.bit_length() < 1000 else f"an integer of about {x.bit_length() * 3 // 10:,} digits"


_BRIEF = _Brief()
_MOST_LETTERS = 600


def brief(value: object) -> str:
    """Return `repr(value)`, its middle or end left out where it is long: a list may hold another a million times."""
    text = _BRIEF.repr(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def lines_of(text: str) -> str:
    """Return a text of several lines, each as `one_line` has it."""
    return text if text.isprintable() else "\n".join(map(one_line, text.split("\n")))


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return ` Did you mean 'x'?` for the known name closest to `name`, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def shown(path: Path | str) -> str:
    """Return a path as one line that can be printed: control characters and bytes that are no text are written out."""
    return one_line(printable(path))


def printable(path: Path | str) -> str:
    """Return a path as text that can be encoded: bytes that are no text are written out; line ends stay."""
    return _as_utf8(str(path)).encode("utf-8", "backslashreplace").decode("utf-8")


def _as_utf8(text: str) -> str:
    """Return a name of the file system as it is in UTF-8, also where Python reads names as ASCII (LC_ALL=C)."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair that stands for no byte
        return text


_PATH_BYTES, _NAME_BYTES = 4095, 255  # of a path, and of each name in it


def no_path(text: str) -> str | None:
    """Return what a path of this text would have to be, where no file can have it; None where one can."""
    if "\0" in text:
        return "a path without a zero character"
    try:
        length = len(os.fsencode(text))
    except UnicodeEncodeError:
        return "a path of whole characters"
    longest = max((len(os.fsencode(part)) for part in Path(text).parts), default=0)
    is_short = length <= _PATH_BYTES and longest <= _NAME_BYTES
    return None if is_short else f"a path of at most {_PATH_BYTES:,} bytes, each name of at most {_NAME_BYTES}"


def composed(text: str) -> str:
    """Return a text in Unicode's composed form (NFC), so that a name from a Mac's file system equals the same typed."""
    return unicodedata.normalize("NFC", _as_utf8(text))
