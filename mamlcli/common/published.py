"""Paths in what is exported, which others read: they tell nothing of a home, a user or a machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mamlcli.common.files import home_dir


def published_path(path: Path | str) -> str:
    """Return a path as others may read it: from the current folder where it is below it, else its last name alone.

    Where the home of the user is below the current folder, it is the last name, too.
    """
    whole, here, home = Path(os.path.abspath(path)), Path.cwd(), home_dir()
    has_home = home is not None and here in home.parents
    return str(whole.relative_to(here)) if here in whole.parents and not has_home else whole.name or "."


def published_names(paths: Sequence[str]) -> list[str]:
    """Return each path as others may read it; different ones that are then the same get a number behind them."""
    names: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        name, number = published_path(path), 1
        while (numbered := name if number == 1 else f"{name} ({number})") in names.values():
            number += 1
        names[path] = numbered
    return [names[path] for path in paths]
