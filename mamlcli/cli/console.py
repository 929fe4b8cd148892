"""This module alone writes to the terminal: results to stdout, everything else to stderr.

A command hands its result to `show`, which alone decides between JSON and tables: `--json` tells this module, not the
command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

from rich.console import Console, RenderableType

from mamlcli.cli.streams import can_write, is_unicode, make_writable
from mamlcli.common.files import json_text

make_writable()

# Off a terminal, rich guesses 80 columns and would fold long paths and table cells; a file has no width.
_FILE_WIDTH = 120


# With NO_COLOR (no-color.org) not even bold: plain text.
_COLORS: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"


_stdout = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH, highlight=False, color_system=_COLORS)


_stderr = Console(
    stderr=True, width=None if sys.stderr.isatty() else _FILE_WIDTH, highlight=False, color_system=_COLORS
)


# The result of a command ---------------------------------------------------------------------------------------


@runtime_checkable
class Report(Protocol):
    """A result that has a JSON form."""

    def to_json(self) -> object:
        """Return the result as primitives."""


@dataclass(frozen=True)
class Verbatim:
    """A part that is shown on stdout as it is: no markup, no folding."""

    text: str


@dataclass(frozen=True)
class Note:
    """A part that is no result, such as where files are; it goes to stderr, and is left out with --json."""

    text: str


Part = RenderableType | Verbatim | Note


R = TypeVar("R")


_is_json = False


def choose_json(is_json: bool) -> bool:
    """Choose whether `show` prints JSON, as --json says; return the choice unchanged, as typer wants it."""
    global _is_json
    _is_json = is_json
    return is_json


def json_form(report: object) -> object:
    """Return the JSON form of a report; lists, dictionaries and texts are their own."""
    return report.to_json() if isinstance(report, Report) else report


def show(report: R, parts: Callable[[R], Iterable[Part]], *, to_json: Callable[[R], object] = json_form) -> None:
    """Show the result of a command in the form that was asked for.

    Args:
        report: the result.
        parts: makes of it what a person reads, in order; not called with --json.
        to_json: makes of it the one JSON document that --json prints; called with --json alone.
    """
    if _is_json:
        sys.stdout.write(json_text(to_json(report), is_ascii=not is_unicode(sys.stdout)))
        sys.stdout.flush()
        return
    for part in parts(report):
        if isinstance(part, Verbatim):
            result_text(part.text)
        elif isinstance(part, Note):
            note(part.text)
        else:
            result(part)


def result(renderable: RenderableType) -> None:
    """Show a result that has no JSON form on stdout: a table, or a text with markup."""
    _stdout.print(renderable)


def result_text(text: str) -> None:
    """Show a finished text on stdout as it is: no markup, no folding."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    sys.stdout.flush()
    if not can_write(text, sys.stdout):
        warn(f"characters that {sys.stdout.encoding} lacks are shown as escapes; with PYTHONUTF8=1 they are themselves")


# Beside the result ---------------------------------------------------------------------------------------------


def note(text: RenderableType) -> None:
    """Show something that is not a result on stderr."""
    _stderr.print(text)


def warn(text: str) -> None:
    """Show a warning on stderr."""
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


def stdout_console() -> Console:
    """Return the stdout console, whose width tests set."""
    return _stdout
