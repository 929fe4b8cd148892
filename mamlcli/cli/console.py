"""The only module that writes to the terminal: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from typing import Any, Literal

from rich.console import Console, RenderableType

from mamlcli.common.files import json_text

# Off a terminal, rich guesses 80 columns and would fold long paths and table cells; a file has no width.
_FILE_WIDTH = 120


# With NO_COLOR (no-color.org) not even bold: plain text.
_COLORS: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"


_stdout = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH, highlight=False, color_system=_COLORS)


_stderr = Console(
    stderr=True, width=None if sys.stderr.isatty() else _FILE_WIDTH, highlight=False, color_system=_COLORS
)


def result(renderable: RenderableType) -> None:
    """Show a result (a table, a finished text) on stdout."""
    _stdout.print(renderable)


def result_text(text: str) -> None:
    """Show a finished text on stdout as it is: no markup, no folding."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    sys.stdout.flush()


def result_json(value: Any) -> None:
    """Show a result as one JSON document on stdout."""
    sys.stdout.write(json_text(value))
    sys.stdout.flush()


def note(text: RenderableType) -> None:
    """Tell the person something that is not a result, on stderr."""
    _stderr.print(text)


def warn(text: str) -> None:
    """Warn on stderr."""
    _stderr.print(f"[yellow]warning:[/yellow] {_escaped(text)}", soft_wrap=True)


def error(text: str) -> None:
    """Report a user's mistake on stderr, one line each."""
    for line in text.splitlines():
        _stderr.print(f"[red]error:[/red] {_escaped(line)}", soft_wrap=True)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def stderr_console() -> Console:
    """Return the stderr console, for progress bars."""
    return _stderr
