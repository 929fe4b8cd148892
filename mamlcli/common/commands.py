"""Commands that messages suggest are made here, quoted so that they work when they are pasted into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from mamlcli.common.words import printable


def command(*words: str | Path) -> str:
    """Return `mamlcli WORDS` as one line for a POSIX shell; each word becomes one argument, quoted where it must be.

    >>> command("adapt", "runs/my exp-1", "evaluation.steps=5")
    "mamlcli adapt 'runs/my exp-1' evaluation.steps=5"
    """
    return shlex.join(["mamlcli", *(printable(word) for word in words)])
