"""Recipes name the JSON Schema by which editors complete and check them: a line at their top, and a file beside them.

The line is the one that the YAML language server reads (VS Code, Neovim, Helix, Zed, JetBrains). It names a file of the
recipe's own folder, so that it holds without a network, and for anyone who has a copy of the folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from mamlcli.common.bounded import BoundError, read_regular
from mamlcli.common.disk import write_error
from mamlcli.common.errors import MamlError, RecipeError
from mamlcli.common.files import atomic_write
from mamlcli.common.words import shown

SCHEMA_FILE = "recipe.schema.json"

# Any such line, with the end of the line.
_ANY_EDITOR_LINE = re.compile(r"^#[ \t]+yaml-language-server[ \t]*:.*\n?", re.MULTILINE)

# By this an earlier version of the file is known.
SCHEMA_COMMENT = "Written by: mamlcli recipes schema"

_MOST_BYTES = 2_000_000


def editor_line(name: str) -> str:
    """Return the line of a recipe that names the file of the schema beside it."""
    return f"# yaml-language-server: $schema={name}\n"


def with_editor_line(text: str) -> str:
    """Return the text of a recipe with the line for editors at its top, in the place of any other such line."""
    return editor_line(SCHEMA_FILE) + without_editor_line(text)


def without_editor_line(text: str) -> str:
    """Return the text of a recipe without a line for editors."""
    return _ANY_EDITOR_LINE.sub("", text, count=1)


def write_schema(path: Path, text: str) -> bool:
    """Write the JSON Schema of recipes; an earlier one is replaced, any other file is not.

    Args:
        path: the file.
        text: the schema.

    Returns:
        Whether it was written; False where it stands there already.

    Raises:
        MamlError: another file stands there, or the place cannot be written.
    """
    found = _content_of(path)
    if found == text.encode():
        return False
    if found is not None and SCHEMA_COMMENT.encode() not in found[:1000]:
        got = "a folder" if path.is_dir() else "another file"
        raise RecipeError([f"{shown(path)}: expected a new file, got {got}. Name another, as in --out my.schema.json."])
    try:
        atomic_write(path, text.encode())
    except OSError as error:
        raise write_error(error, str(path), expected="a place that can be written", kind=MamlError) from error
    return True


def _content_of(path: Path) -> bytes | None:
    """Return what a file holds, nothing of what is no file that can be read; None where nothing stands there."""
    try:
        return read_regular(path, at_most=_MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, BoundError):
        return b""
