"""Reads JSON files that anyone may have changed: ordinary files alone, of bounded size and depth, values of their kind.

The readers of values raise a ValueError that says which key it is, what was expected there, and what was found.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from mamlcli.common.bounded import read_regular
from mamlcli.common.errors import RunError

Item = TypeVar("Item")

MOST_BYTES = 1 << 26  # of a file that is read as a whole
_MOST_LEVELS = 64  # of values inside each other; what is ours has six
_MOST_WHOLE = 2**53  # whole numbers up to here are the same in every program that reads JSON

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


# Files ------------------------------------------------------------------------------------------------------------


def file_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of an ordinary file of bounded size.

    Raises:
        OSError: it cannot be read; ValueError: it is no file, or larger than `most` bytes.
    """
    return read_regular(path, at_most=most)


def json_object(path: Path) -> dict[str, object]:
    """Return the JSON object in a file.

    Raises:
        OSError: the file cannot be read; ValueError: it is no JSON object, or is too deep; the message says why.
    """
    content = file_bytes(path)
    if not content:
        raise ValueError("an empty file")
    value = json_value(content)
    if not isinstance(value, dict):
        raise ValueError(f"no JSON object but a {type(value).__name__}")
    return value


def read_as(path: Path, make: Callable[[dict[str, object]], Item], *, expected: str, next_step: str) -> Item:
    """Return what a JSON file of a run means.

    Args:
        path: the file.
        make: makes it of the object in the file; ValueError for one that cannot be meant.
        expected, next_step: of the RunError; what is wrong with the file stands in its `got`.
    """
    try:
        return make(json_object(path))
    except (OSError, ValueError) as error:
        raise RunError(str(path), expected=expected, got=reason(error), next_step=next_step) from error


def json_value(content: bytes) -> object:
    """Return the value in the content of a JSON file in UTF-8.

    Raises:
        ValueError: it is no JSON, or has too many levels; the message says why.
    """
    try:
        value = json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("not JSON of a few levels but of thousands") from error
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    if content.count(b"{") + content.count(b"[") <= _MOST_LEVELS:
        return value
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [item for of_one in level if isinstance(of_one, dict | list) for item in _items(of_one)]
        if not level:
            return value
    raise ValueError(f"values inside each other on more than {_MOST_LEVELS} levels")


def _items(value: dict[str, object] | list[object]) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else value


def reason(error: Exception) -> str:
    """Return in a few words why a file could not be read."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


# Values -----------------------------------------------------------------------------------------------------------


def wrong(key: str, expected: str, value: object) -> ValueError:
    """Return the error of a value that is not what its key must have; a long value is cut."""
    return ValueError(f"{key}: expected {expected}, got {_SHORT.repr(value)}")


def text(value: object, key: str) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise wrong(key, "a text", value)
    return value


def truth(value: object, key: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise wrong(key, "true or false", value)
    return value


def whole(value: object, key: str, *, least: int = 0, most: int = _MOST_WHOLE) -> int:
    """Return a whole number within bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        bound = f" of at most {most:,}" if most != _MOST_WHOLE else ""
        raise wrong(key, f"a whole number from {least}{bound}", value)
    return value


def finite(value: object, key: str) -> float:
    """Return a finite number; whole ones stay whole numbers."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (abs(value) <= _MOST_WHOLE if isinstance(value, int) else math.isfinite(value)):  # type: ignore[arg-type]
        raise wrong(key, "a finite number", value)
    return value  # type: ignore[return-value]


def mapping(value: object, key: str) -> Mapping[str, object]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise wrong(key, "an object of keys and values", value)
    return value


def items(value: object, key: str, item: Callable[[object, str], Item]) -> list[Item]:
    """Return a list, each of its values read by `item`."""
    if not isinstance(value, list):
        raise wrong(key, "a list", value)
    return [item(one, f"{key}[{number}]") for number, one in enumerate(value)]


def maybe(value: object, key: str, item: Callable[[object, str], Item]) -> Item | None:
    """Return a value read by `item`; None for null and for a key that is missing."""
    return None if value is None else item(value, key)
