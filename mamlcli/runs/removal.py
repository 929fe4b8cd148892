"""Deletes a run's folder, and refuses to delete anything else."""

from __future__ import annotations

import shutil
from pathlib import Path

from mamlcli.common.errors import RunError
from mamlcli.runs.folder import RunDirectory


def remove_run(path: Path) -> None:
    """Delete a run directory, and refuse to delete anything else; of a link, delete what is in the folder it leads to.

    Raises:
        RunError: the path is a file, or a folder with files that is not a run directory.
    """
    if path.exists() and not path.is_dir():
        raise RunError(str(path), expected="a run directory", got="a file", next_step="Name another --run-dir")
    if path.exists() and any(path.iterdir()):
        RunDirectory.open(path).check_writable()
        if not path.is_symlink():
            shutil.rmtree(path)
            return
        for inside in path.iterdir():  # the link stays, and the folder that it leads to
            shutil.rmtree(inside) if inside.is_dir() and not inside.is_symlink() else inside.unlink()
