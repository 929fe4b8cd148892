"""Reads and writes the records of metrics.jsonl: one JSON object a line, appended as training goes on.

A file may have millions of lines; it is read in pieces, and never held as a whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TypedDict

from mamlcli.common.bounded import open_regular
from mamlcli.common.errors import RunError
from mamlcli.common.json_reading import json_value, reason

_PIECE = 1 << 20  # bytes that are read at once; no line of ours has so many
_TAIL_BYTES = 1 << 16  # more than the last record
_MOST_WHOLE = 2**53  # as whole numbers of JSON files are bounded


class MetricsRecord(TypedDict, total=False):
    """Holds one line of metrics.jsonl: kind, iteration and time, and numbers that depend on the kind.

    Attributes:
        kind: "step", "validation" or "stop".
        iteration: meta-iterations done.
        elapsed_s: seconds since this process began to train the run.
        outer_loss: of a step.
        loss: of a validation.
        accuracy: of either, for classification; None for regression.
    """

    kind: str
    iteration: int
    elapsed_s: float
    outer_loss: float
    loss: float
    accuracy: float | None


KINDS = ("step", "validation", "stop")
_NUMBERS = ("elapsed_s", "outer_loss", "loss", "accuracy")


def pieces_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of metrics.jsonl in pieces of whole lines; a line as long as a piece is left out."""
    rest = b""
    while data := stream.read(_PIECE):
        lines, end, begun = data.rpartition(b"\n")
        if end:
            yield rest + lines + end
            rest = begun
        else:
            rest = (rest + data)[: _PIECE + 1]
    if rest:
        yield rest


def lines_in(piece: bytes) -> list[bytes]:
    """Return the lines of a piece that are not empty."""
    return [line for line in piece.split(b"\n") if line and not line.isspace()]


def records_of_lines(lines: list[bytes]) -> list[MetricsRecord | None]:
    """Return the record in each line; None for a line that holds none: cut by a crash, or changed."""
    try:
        values = json.loads((b"[" + b",".join(lines) + b"]").decode())
        is_whole = len(values) == len(lines)
    except (ValueError, RecursionError):
        is_whole = False
    if not is_whole:
        values = [_value(line) for line in lines]
    return [value if _is_record(value) else None for value in values]


def records_in(piece: bytes) -> list[MetricsRecord]:
    """Return the whole records in a piece of metrics.jsonl, without lines that hold none."""
    return [record for record in records_of_lines(lines_in(piece)) if record is not None]


def records_of(stream: IO[bytes]) -> Iterator[MetricsRecord]:
    """Yield the whole records of metrics.jsonl, without lines that hold none."""
    for piece in pieces_of(stream):
        yield from records_in(piece)


def read_records(path: Path) -> Iterator[MetricsRecord]:
    """Yield the whole records of a file of metrics; none where it is missing.

    Raises:
        RunError: it cannot be read.
    """
    try:
        with open_regular(path) as stream:
            yield from records_of(stream)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> RunError:
    """Return what is raised for metrics that cannot be read."""
    return RunError(str(path), expected="a file that can be read", got=reason(error))


def last_record(path: Path) -> MetricsRecord:
    """Return the last whole record without reading all of the file; empty if there is none."""
    try:
        with open_regular(path) as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            return last_record_in(stream.read(_TAIL_BYTES))
    except (OSError, ValueError):
        return MetricsRecord()


def last_record_in(content: bytes) -> MetricsRecord:
    """Return the last whole record; an empty record if there is none."""
    lines = reversed(content.split(b"\n"))
    records = (record for line in lines for record in records_of_lines([line]) if record is not None)
    return next(records, MetricsRecord())


def metrics_line(record: Mapping[str, object]) -> str:
    """Return a record as a line of metrics.jsonl."""
    return json.dumps(record) + "\n"


def is_kept(record: MetricsRecord, *, iteration: int, last_validated: int) -> bool:
    """Return whether training from a checkpoint will not write a record again.

    Args:
        record: of the metrics.
        iteration: meta-iterations done at the checkpoint.
        last_validated: meta-iterations done at its last validation.
    """
    return record["iteration"] <= (iteration if record["kind"] == "step" else last_validated)


def _value(line: bytes) -> object:
    try:
        return json_value(line)
    except ValueError:
        return None


def _is_record(value: object) -> bool:
    """Return whether a value of JSON can be a record; other keys than ours may be there, and hold anything."""
    if not isinstance(value, dict) or value.get("kind") not in KINDS:
        return False
    iteration = value.get("iteration")
    if type(iteration) is not int or not 0 <= iteration <= _MOST_WHOLE:
        return False
    return all(_is_number(value.get(key)) for key in _NUMBERS)


def _is_number(value: object) -> bool:
    """Return whether a value is a number, which may have overflowed, or none."""
    return value is None or type(value) is float or (type(value) is int and abs(value) <= _MOST_WHOLE)
