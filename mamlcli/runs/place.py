"""Takes the folder of a new run: an empty one, one whose making was cut, or with --force one that holds a run.

All that changes a folder here holds its lock, deletes files that are a run's own and no other, and follows no link.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mamlcli.common.commands import command
from mamlcli.common.disk import write_error
from mamlcli.common.errors import MamlError, RunError, TakenError
from mamlcli.common.leftovers import remove_leftovers
from mamlcli.common.names import RUNS
from mamlcli.runs.lock import LOCK, held_lock, is_lock_held, taken_error
from mamlcli.runs.models import is_model, like_model
from mamlcli.runs.own_files import foreign_names, is_begun, remove_files
from mamlcli.runs.search import CHECKPOINTS, MANIFEST, RECIPE, like_run, newest_run_path, next_run_path

Made = TypeVar("Made")


@contextmanager
def place_of_new_run(path: Path, *, is_forced: bool = False) -> Iterator[None]:
    """Make or take the folder of a new run, and hold its lock meanwhile.

    Args:
        path: the folder.
        is_forced: whether a run that is there is deleted; the folder itself stays.

    Raises:
        RunError: something else is there, or a run and it is not forced, or the lock cannot be taken.
        OSError, ValueError: the folder cannot be made.
    """
    check_free(path, is_forced=is_forced)
    path.mkdir(parents=True, exist_ok=True)
    with held_lock(path):
        check_free(path, is_forced=is_forced)
        if is_forced:
            remove_files(path)
        remove_leftovers(path, min_age_s=0)
        yield


def in_numbered_place(base: Path, name: str, make: Callable[[Path], Made]) -> Made:
    """Make a run or a study in `<base>/<name>-<number>`, with the next number that no other process takes.

    One that was cut while it was made gives its place to the next.

    Args:
        base, name: the folder is `<base>/<name>-<number>`.
        make: makes it in a folder; TakenError where another process was quicker.
    """
    newest = newest_run_path(base, name)
    path = newest if newest is not None and is_left(newest) else _made_next(base, name)
    while True:
        try:
            return make(path)
        except TakenError:
            path = _made_next(base, name)


def _made_next(base: Path, name: str) -> Path:
    """Make the folder with the next number, which no other process can make."""
    base.mkdir(parents=True, exist_ok=True)
    while True:
        path = next_run_path(base, name)
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path


def check_free(path: Path, *, is_forced: bool = False) -> None:
    """Raise RunError unless a new run can be made at a path.

    Args:
        path: the folder.
        is_forced: whether a run may be there.
    """
    if not _is_there(path):
        return
    if is_forced:
        _check_replaceable(path)
    elif not (os.path.isdir(path) and is_begun(path)):
        got = "a folder with files in it" if os.path.isdir(path) else "a file"
        next_step = "Add --resume to continue the run there, --force to replace it, or name another --run-dir"
        kind = TakenError if os.path.isfile(path / MANIFEST) else RunError
        raise kind(str(path), expected="a new or empty folder", got=got, next_step=next_step)


def _check_replaceable(path: Path) -> None:
    """Raise RunError unless a path holds a run and nothing else."""
    if not os.path.isdir(path):
        raise RunError(str(path), expected="a run directory", got="a file", next_step="Name another --run-dir")
    if is_model(path):
        next_step = "Name another --run-dir"
        raise RunError(str(path), expected="a run of yours", got="a trained model of mamlcli", next_step=next_step)
    if others := foreign_names(path):
        listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if others[3:] else "")
        raise RunError(
            str(path),
            expected="a run directory with nothing else in it",
            got=f"one with {listed}",
            why="--force deletes what is a run's own, and nothing else",
            next_step="Move these elsewhere, or name another --run-dir",
        )


def _is_there(path: Path) -> bool:
    """Return whether something is at a path; RunError for a path that cannot be, such as a name that is too long."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise place_error(path, error) from error
    return True


def place_error(path: Path, error: OSError | ValueError) -> MamlError:
    """Return the error that a path cannot be the folder of a run."""
    expected, next_step = "a folder that can be written", "Name another --run-dir"
    if isinstance(error, OSError):
        return write_error(error, str(path), expected=expected, next_step=next_step)
    got = "a name with characters that no file can have"
    return RunError(str(path), expected=expected, got=got, next_step=next_step)


def check_idle(path: Path) -> None:
    """Raise TakenError if a process works on the run at a path."""
    if is_lock_held(path):
        raise taken_error(path)


def is_left(path: Path) -> bool:
    """Return whether a run or a study was cut while it was made, and no process works on it now.

    The lock is taken before anything else is made: where there is none, another process may be about to.
    """
    return os.path.isfile(path / LOCK) and is_begun(path) and is_lock_held(path) is False


def no_run_error(path: Path, folder: Path) -> RunError:
    """Return the error that there is no run where one was named, with what is there and what can be done."""
    got = f"a folder without {RECIPE} and {MANIFEST}" if os.path.isdir(path) else "no such folder"
    hint = like_model(str(path)) or like_run(str(path))
    ways_on = ("models", "ls") if hint and "@" in hint else ("runs", "ls") if RUNS.is_dir() else ("train",)
    next_step = f"Run: {command(*ways_on)}"
    if os.path.isfile(folder / RECIPE) and is_begun(folder):
        got, hint = "one that was cut while it was made", "Nothing was trained yet"
        next_step = "Give the command that began it again, without --resume"
    elif os.path.isdir(folder / CHECKPOINTS) and os.path.isfile(folder / RECIPE):
        next_step = f"If --force was cut here, give that command again; or run: {command('runs', 'ls')}"
    return RunError(str(path), expected="a run directory", got=got, why=hint, next_step=next_step)
