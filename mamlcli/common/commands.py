"""Commands that messages suggest are made here, quoted so that they work when they are pasted into a shell."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

_ESCAPED = {"\\": "\\\\", "'": "\\'"}


def command(*words: str | Path) -> str:
    """Return `mamlcli WORDS` as one line for a shell; each word becomes one argument, quoted where it must be.

    A path that begins with a dash gets a folder before it, so that it is no option. Control characters and bytes that
    are no text are written as bash, zsh and ksh read them: $'a\\012b'.

    >>> command("adapt", "runs/my exp-1", "evaluation.steps=5")
    "mamlcli adapt 'runs/my exp-1' evaluation.steps=5"
    """
    return " ".join(["mamlcli", *map(_quoted, words)])


def _quoted(word: str | Path) -> str:
    text = f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(_ESCAPED.get(char) or _written(char) for char in text) + "'"


def _written(char: str) -> str:
    return char if char.isprintable() else "".join(f"\\{byte:03o}" for byte in os.fsencode(char))
