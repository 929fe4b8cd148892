"""Tells the files of a run or a study from others in its folder, and deletes a run's; no link is followed."""

from __future__ import annotations

import os
from pathlib import Path

from mamlcli.common.errors import RunError
from mamlcli.common.leftovers import is_partial_name
from mamlcli.runs.lock import LOCK
from mamlcli.runs.search import CHECKPOINTS, MANIFEST, RECIPE, STUDY_MARK

EVENTS, CELLS = "tensorboard", "cells"

# What trackers keep in a run's folder, each in a folder of its name; all in it is the run's.
TRACKER_FILES = "trackers"

# Files that commands write to the folder of a run, those of studies included. The manifest is deleted first, so that
# what a cut removal leaves is no run; the recipe last.
RUN_FILES = (
    MANIFEST,
    "evaluation.json",
    "tasks.csv",
    "metrics.jsonl",
    "curve.png",
    "curve.svg",
    "error.log",
    "collapse.json",
    "control.json",
    "diverged.json",
    "head_operator.json",
    "operators.json",
    "layers.png",
    "layers.svg",
    RECIPE,
    LOCK,
)

# What there is of a run whose making was cut.
_BEGUN = (RECIPE, LOCK, "error.log")

_OF_SYSTEM = (".DS_Store", "Thumbs.db", "desktop.ini")

# Where a run or a study writes, so that no link may stand there.
_WRITTEN = (CHECKPOINTS, EVENTS, f"{EVENTS}/evaluation", TRACKER_FILES, "metrics.jsonl", CELLS, "capacity")


def is_begun(path: Path) -> bool:
    """Return whether a folder is empty, or all in it is of a run or a study that was cut while it was made."""
    for entry in _entries(path):
        if entry.name in (CHECKPOINTS, CELLS) and entry.is_dir(follow_symlinks=False):
            if not all(is_partial_name(inside.name) for inside in _entries(Path(entry.path))):
                return False
        elif not (entry.name in (*_BEGUN, *_OF_SYSTEM) or is_partial_name(entry.name)):
            return False
    return True


def check_no_links(path: Path) -> None:
    """Raise RunError if a link stands in a run or a study where it is written to."""
    for name in _WRITTEN:
        check_no_link(path / name)


def check_no_link(path: Path) -> None:
    """Raise RunError if a part of a run or a study is a link."""
    if path.is_symlink():
        raise RunError(
            str(path),
            expected="a file or folder of the run's own",
            got=f"a link to {os.readlink(path)}",
            why="Nothing is written or deleted through a link in a run",
            next_step="Move what it leads to here, in its place, or delete the link",
        )


def check_no_link_below_run(path: Path) -> None:
    """Raise RunError if a place to write to lies in a run or a study, and a link stands between the two.

    A link to a run, or above it, is its user's own.
    """
    whole = path if path.is_absolute() else Path.cwd() / path
    for folder in whole.parents:
        if _is_whole_run(folder):
            for part in (whole, *whole.parents):
                if part == folder:
                    break
                check_no_link(part)


def _is_whole_run(folder: Path) -> bool:
    """Return whether a folder has what every run or study has; one mark alone may be in any project's folder."""
    marks = ((MANIFEST, RECIPE), (STUDY_MARK,))
    return any(all(os.path.lexists(folder / name) for name in names) for names in marks)


def foreign_names(path: Path) -> list[str]:
    """Return what is in a run's folder and is not the run's, sorted."""
    names = []
    for entry in _entries(path):
        if entry.name in (CHECKPOINTS, EVENTS) and entry.is_dir(follow_symlinks=False):
            names += [f"{entry.name}/{name}" for name in _foreign_in(Path(entry.path))]
        elif not (entry.name == TRACKER_FILES and entry.is_dir(follow_symlinks=False)) and not _is_file_of_run(entry):
            names.append(entry.name)
    return sorted(names)


def _is_file_of_run(entry: os.DirEntry[str]) -> bool:
    is_named = entry.name in (*RUN_FILES, *_OF_SYSTEM) or is_partial_name(entry.name)
    is_link = entry.is_symlink() and entry.name in (CHECKPOINTS, EVENTS, TRACKER_FILES)
    return is_link or (is_named and not entry.is_dir(follow_symlinks=False))


def _foreign_in(folder: Path) -> list[str]:
    """Return what is in a folder of checkpoints or events and is neither."""
    names = []
    for entry in _entries(folder):
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and (folder.name, entry.name) == (EVENTS, "evaluation"):
            names += [f"{entry.name}/{name}" for name in _foreign_in(Path(entry.path))]
        elif is_folder or not _is_inner_file(entry.name):
            names.append(entry.name)
    return names


def _is_inner_file(name: str) -> bool:
    is_event = name.startswith("events.out.tfevents.")
    return name.endswith(".safetensors") or is_event or name in _OF_SYSTEM or is_partial_name(name)


def remove_files(path: Path) -> None:
    """Delete a run's files, the lock aside, which is held; nothing else is there. Of a link only the link goes."""
    present = {entry.name: entry for entry in _entries(path)}
    order = [*RUN_FILES[:1], *(name for name in present if name not in RUN_FILES), *RUN_FILES[1:]]
    for name in order:
        if name in present and name != LOCK:
            _remove(present[name])


def _remove(entry: os.DirEntry[str]) -> None:
    if not entry.is_dir(follow_symlinks=False):
        os.unlink(entry.path)
        return
    for inside in _entries(Path(entry.path)):
        _remove(inside)
    os.rmdir(entry.path)


def _entries(path: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder."""
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        next_step = "Name another --run-dir"
        raise RunError(
            str(path), expected="a folder that can be read", got=error.strerror, next_step=next_step
        ) from error
