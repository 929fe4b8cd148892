"""Results become text of tables here: numbers with intervals, durations, curves in one line, accuracies in per cent."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from mamlcli.common.statistics import Score  # needs numpy, whose absence doctor tells in a table

PERCENT = 100.0

SPARKS = "▁▂▃▄▅▆▇█"

SPARK_WIDTH = 40


_MANY_ROWS = 100


class _PlainTable(Table):
    """A table that lays out many rows at once; rich does so cell by cell, which takes a second for 2,000 rows."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts of the table: the same as rich's, which are taken where a row would need two lines."""
        columns = [_texts(console, column) for column in self.columns] if len(self.rows) > _MANY_ROWS else []
        widths = [
            max(column.min_width or 0, *(text.cell_len for text in texts))
            for column, texts in zip(self.columns, columns, strict=False)
        ]
        width = sum(widths) + 3 * len(widths) - 1
        if not columns or width > options.max_width or not self._is_simple() or not all(map(_are_lines, columns)):
            yield from super().__rich_console__(console, options)
            return
        empty, rule = Segment(f"{' ' * width}\n"), Segment(f" {'─' * (width - 2)} \n")
        header, *rows = zip(*columns, strict=True)
        rights = [column.justify == "right" for column in self.columns]
        yield empty
        yield from _line(console, [Text(text.plain, style="table.header") for text in header], widths, rights)
        yield rule
        for row in rows:
            yield from _line(console, row, widths, rights)
        yield empty
        if self.caption:
            caption = console.render_str(str(self.caption), style=self.caption_style or "")
            yield from console.render(caption, options.update(width=width, justify="left"))

    def _is_simple(self) -> bool:
        """Return whether it has nothing but columns, rows and a caption."""
        columns = (column.width or column.max_width or column.ratio or column.style for column in self.columns)
        return not (self.title or any(columns) or any(row.style or row.end_section for row in self.rows))


def _texts(console: Console, column: Column) -> list[Text]:
    """Return the header and the cells of a column; those that are no text are shown as an empty line."""
    cells = (console.render_str(cell) if isinstance(cell, str) else cell for cell in (column.header, *column.cells))
    return [cell if isinstance(cell, Text) else Text("\n") for cell in cells]


def _are_lines(texts: Sequence[Text]) -> bool:
    return all(text.plain.isprintable() and not text.spans for text in texts)


def _line(console: Console, texts: Sequence[Text], widths: Sequence[int], rights: Sequence[bool]) -> RenderResult:
    """Yield the parts of a row, which has one line: three spaces stand between its cells."""
    margin = " "
    for text, width, is_right in zip(texts, widths, rights, strict=True):
        space = " " * (width - text.cell_len)
        before, after = (f"{margin}{space}", "") if is_right else (margin, space)
        yield Segment(before)
        yield Segment(text.plain, console.get_style(text.style) if text.style else None)
        yield Segment(after)
        margin = "   "
    yield Segment(" \n")


def plain_table(title: str | None = None, caption: str | None = None) -> Table:
    """Return an empty table in the style of all tables; it fits 80 columns and can be pasted as text."""
    return _PlainTable(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="dim",
        pad_edge=False,
    )


def with_interval(value: Score | Mapping[str, float | None] | None, *, scale: float = 1.0, digits: int = 3) -> str:
    """Return `mean ± half-width`, or `-` where there is no number.

    Args:
        value: a score, or one as results in JSON hold it.
        scale: what both numbers are multiplied by.
        digits: decimals.
    """
    if not value:
        return "-"
    if isinstance(value, Mapping):
        mean, ci95 = value["mean"], value.get("ci95_over_tasks", value.get("ci95_over_seeds"))
    else:
        mean, ci95 = value.mean, value.ci95
    if mean is None:
        return "-"
    text = _decimal(scale * mean, digits)
    return text if ci95 is None else f"{text} ± {_decimal(scale * ci95, digits)}"


def sparkline(
    values: Sequence[float], width: int = SPARK_WIDTH, *, low: float | None = None, high: float | None = None
) -> str:
    """Return a curve as one line of blocks; a longer one is averaged, a dot stands where no number is finite.

    Args:
        values: the curve.
        width: characters at most.
        low: value of the lowest block; by default the smallest one.
        high: value of the highest block; by default the largest one.
    """
    buckets = _averaged(values, width)
    finite = [value for value in buckets if math.isfinite(value)]
    bottom = low if low is not None else min(finite, default=0.0)
    top = high if high is not None else max(finite, default=0.0)
    scale = 1.0 / (top - bottom) if top > bottom else 0.0
    shares = (min(max((value - bottom) * scale, 0.0), 1.0) if math.isfinite(value) else None for value in buckets)
    return "".join("·" if share is None else SPARKS[round(share * (len(SPARKS) - 1))] for share in shares)


def _averaged(values: Sequence[float], width: int) -> list[float]:
    num = min(len(values), width)
    edges = [round(index * len(values) / num) for index in range(num + 1)] if num else []
    groups = [[v for v in values[a:b] if math.isfinite(v)] for a, b in itertools.pairwise(edges)]
    return [sum(group) / len(group) if group else math.nan for group in groups]


def number_text(value: float, *, scale: float = 1.0, digits: int = 3) -> str:
    """Return a number, or `-` for one that is not finite."""
    return _decimal(scale * value, digits) if math.isfinite(value) else "-"


def _decimal(value: float, digits: int) -> str:
    # Losses of an inner loop that diverges have dozens of digits, and would push the rest off the table.
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that fits: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
