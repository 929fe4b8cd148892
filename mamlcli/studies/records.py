"""Reads the small JSON files that studies keep beside their runs: controls, collapses, operators, premises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mamlcli.common.errors import RunError
from mamlcli.common.json_reading import file_bytes, json_value

Record = TypeVar("Record")

_MOST_BYTES = 1 << 28  # operators of wide layers have many numbers

# What a damaged file can raise on its way to a record.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)


def read_record(file: Path, make: Callable[[Any], Record]) -> Record:
    """Return what a record's file holds.

    Args:
        file: of JSON.
        make: turns its content into the record.

    Raises:
        RunError: the file is not there, or damaged. What keeps such files writes them again where they are missing.
    """
    try:
        return make(json_value(file_bytes(file, _MOST_BYTES)))
    except _DAMAGED as error:
        raise RunError(
            str(file),
            expected="a record that can be read",
            got=f"{type(error).__name__}: {error}",
            next_step="Delete the file and run the study again: its command writes what is missing",
        ) from error


def kept_record(file: Path, make: Callable[[Any], Record]) -> Record | None:
    """Return what a record's file holds; None where it must be written, as it is missing or damaged."""
    try:
        return read_record(file, make)
    except RunError:
        return None
