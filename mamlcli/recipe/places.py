"""Paths that a user types are written out here, so that they lead to the same place from any folder."""

from __future__ import annotations

import os
from pathlib import Path

from mamlcli.common.files import user_path
from mamlcli.common.names import PATH_KEY
from mamlcli.common.published import published_path
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ImageKeys


def path_of_run(path: Path | str) -> Path:
    """Return the folder of a run as it was typed, `~` written out, and `.` and `..` by their names."""
    typed = Path(os.path.expanduser(path))
    return typed if typed.name not in ("", "..") else Path(os.path.abspath(typed))


def whole_path(typed: str, base: Path | None = None) -> str:
    """Return the absolute path that a typed one means, with `~` and variables of the environment written out.

    Links stay as they are named, so that a link that is set to another folder leads there.

    Args:
        typed: as in `tasks.path`.
        base: the folder that a relative path starts from; by default the current one.

    Raises:
        DataError: a variable is not set.
    """
    path = os.path.join(base or Path.cwd(), user_path(typed, PATH_KEY))
    # Behind a link, .. leads elsewhere than the text says.
    return os.path.realpath(path) if ".." in Path(path).parts else os.path.normpath(path)


def data_path(recipe: Recipe) -> str | None:
    """Return the path of a recipe's data as it stands there; None where they are found by name, or generated."""
    return recipe.tasks.path if isinstance(recipe.tasks, ImageKeys) else None


def with_data_path(recipe: Recipe, path: str) -> Recipe:
    """Return a recipe of images whose data are at another path."""
    return recipe.model_copy(update={"tasks": recipe.tasks.model_copy(update={"path": path})})


def with_whole_path(recipe: Recipe) -> Recipe:
    """Return a recipe whose path of data, if it has one, is absolute."""
    typed = data_path(recipe)
    return recipe if typed is None else with_data_path(recipe, whole_path(typed))


def with_published_path(recipe: Recipe) -> Recipe:
    """Return a recipe whose path of data, if it has one, is as others may read it."""
    typed = data_path(recipe)
    return recipe if typed is None else with_data_path(recipe, published_path(typed))
