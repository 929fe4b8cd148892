"""This module alone writes to the terminal: results to stdout, everything else to stderr; text is shown as it is.

A command hands its result to `show`, which alone decides between JSON and tables: `--json` tells this module, not the
command.

Names of files, recipes and classes are part of what is shown, so no text is read as markup, emoji codes or numbers to
colour, and control characters are written out. What has a style says so as rich's `Text`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from mamlcli.cli.streams import can_write, dropping, is_unicode, make_writable, telling
from mamlcli.common.files import json_text
from mamlcli.common.words import lines_of

if TYPE_CHECKING:
    from rich.progress import Progress

make_writable()

# Off a terminal, rich guesses 80 columns and would fold long paths and table cells; a file has no width.
_FILE_WIDTH = 120


# With NO_COLOR (no-color.org) not even bold: plain text.
_COLORS: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"


class PlainConsole(Console):
    """A console for which text is text: no markup, no emoji codes, no highlighting, no control characters.

    Args:
        width: columns; by default those of the terminal.
        stderr: whether it writes to stderr.
        file: what it writes to instead.
    """

    def __init__(self, *, width: int | None, stderr: bool = False, file: IO[str] | None = None) -> None:
        super().__init__(
            width=width, stderr=stderr, file=file, color_system=_COLORS, markup=False, emoji=False, highlight=False
        )

    @property
    def file(self) -> IO[str]:
        """What it writes to: standard error drops what it cannot write, so that no work ends by a line about it."""
        stream = super().file
        return dropping(stream) if self.stderr else telling(stream)

    @file.setter
    def file(self, new: IO[str]) -> None:
        self._file = new

    def on_broken_pipe(self) -> None:
        """Let whoever called know of a reader that has left; rich calls this where it handles that error."""
        raise

    def render_str(  # type: ignore[no-untyped-def]  # as rich has it, whatever its version
        self, text: str, **choices
    ) -> Text:
        """Return a text, such as a cell of a table, with its control characters written out before it is laid out."""
        return super().render_str(lines_of(text), **choices)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the parts of what is shown, their control characters written out."""
        for text, style, control in super().render(renderable, options):
            # Codes that move the cursor are the console's own, and are marked so.
            yield Segment(text if control else lines_of(text), style, control)


_stdout = PlainConsole(width=None if sys.stdout.isatty() else _FILE_WIDTH)


_stderr = PlainConsole(width=None if sys.stderr.isatty() else _FILE_WIDTH, stderr=True)


# The result of a command ---------------------------------------------------------------------------------------


@runtime_checkable
class Report(Protocol):
    """A result that has a JSON form."""

    def to_json(self) -> object:
        """Return the result as primitives."""


@dataclass(frozen=True)
class Verbatim:
    """A part that is shown on stdout as it is, without folding."""

    text: str


@dataclass(frozen=True)
class Note:
    """A part that is no result, such as where files are; it goes to stderr, and is left out with --json."""

    text: str | Text


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
        _write(json_text(to_json(report), is_ascii=not is_unicode(sys.stdout)))
        return
    for part in parts(report):
        if isinstance(part, Verbatim):
            result_text(part.text)
        elif isinstance(part, Note):
            note(part.text)
        else:
            result(part)


def result(renderable: RenderableType) -> None:
    """Show a result that has no JSON form on stdout: a table, or a text."""
    _stdout.print(renderable)


def result_text(text: str) -> None:
    """Show a finished text on stdout as it is, without folding; of control characters, tabs and line ends stay."""
    text = "\t".join(map(lines_of, text.split("\t")))
    _write(text if text.endswith("\n") else f"{text}\n")
    if not can_write(text, sys.stdout):
        warn(f"characters that {sys.stdout.encoding} lacks are shown as escapes; with PYTHONUTF8=1 they are themselves")


def _write(text: str) -> None:
    stream = telling(sys.stdout)
    stream.write(text)
    stream.flush()


# Beside the result ---------------------------------------------------------------------------------------------


def note(part: RenderableType) -> None:
    """Show something that is not a result on stderr. Text is not folded, so that commands in it can be copied."""
    _stderr.print(part, soft_wrap=isinstance(part, str | Text))


def warn(text: str) -> None:
    """Show a warning on stderr."""
    _stderr.print(Text.assemble(("warning:", "yellow"), f" {text}"), soft_wrap=True)


def error(text: str) -> None:
    """Report a user's mistake on stderr, one line each."""
    for line in text.split("\n"):
        _stderr.print(Text.assemble(("error:", "red"), f" {line}"), soft_wrap=True)


def progress_bar() -> Progress:
    """Return a bar on stderr that goes away at its end and is not shown off a terminal; use it as a context manager."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=_stderr, transient=True, disable=not _stderr.is_terminal)


def stderr_console() -> Console:
    """Return the stderr console, for progress bars."""
    return _stderr


def stdout_console() -> Console:
    """Return the stdout console, whose width tests set."""
    return _stdout
