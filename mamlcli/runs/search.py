"""Finds the folders of runs and studies by the names of the files in them, and numbers new runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mamlcli.common.names import RUNS
from mamlcli.common.words import nearest

RECIPE, MANIFEST, CHECKPOINTS = "recipe.yaml", "manifest.json", "checkpoints"


# A folder that holds one of these is taken for a run; one with STUDY_MARK, for a study.
RUN_MARKS = (RECIPE, MANIFEST, CHECKPOINTS)


STUDY_MARK = "study.json"


_NOT_SEARCHED = (CHECKPOINTS, "tensorboard", "trackers")


def run_folders(base: Path) -> Iterator[Path]:
    """Yield every run in a folder and below it, and every folder that cannot be listed."""
    for folder, names in _walk(base):
        if any(mark in names for mark in RUN_MARKS):
            yield folder


def study_folders(base: Path) -> Iterator[Path]:
    """Yield every study in a folder and below it."""
    for folder, names in _walk(base):
        if STUDY_MARK in names:
            yield folder


def _walk(base: Path) -> Iterator[tuple[Path, set[str]]]:
    """Yield folders with the names in them; a folder that cannot be listed comes last, as if it were a run."""
    seen: set[str] = set()  # a link may lead back up
    failed: list[OSError] = []
    for folder, below, files in os.walk(base, followlinks=True, onerror=failed.append):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield Path(folder), {*below, *files}
        # Links come last: a run that is here too is listed under its own name.
        searched = [name for name in below if name not in _NOT_SEARCHED and not name.startswith(".")]
        below[:] = sorted(searched, key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
    for error in failed:
        yield Path(str(error.filename)), set(RUN_MARKS)


def like_run(text: str) -> str | None:
    """Return a question after the run below runs/ that a word may mean; None if none is near."""
    names = [str(path.relative_to(RUNS)) for path in run_folders(RUNS) if path != RUNS]
    return nearest(text.removeprefix(f"{RUNS}/"), names).strip() or None


def next_run_path(base: Path, name: str) -> Path:
    """Return the path of a new run, `<base>/<name>-<number>`, numbered one above the highest there is.

    Another process may take it at any moment: see `place.in_numbered_place`.
    """
    name = folder_name(name)
    return base / f"{name}-{max([0, *_numbers(base, name)]) + 1}"


def newest_run_path(base: Path, name: str, is_wanted: Callable[[Path], bool] = lambda path: True) -> Path | None:
    """Return the path of the run of that name with the highest number; None if there is none.

    Args:
        base, name: as in `next_run_path`.
        is_wanted: others are passed over.
    """
    name = folder_name(name)
    paths = (base / f"{name}-{number}" for number in sorted(_numbers(base, name), reverse=True))
    return next(filter(is_wanted, paths), None)


_NAME_BYTES = 200  # of 255, which leaves room for the number


def folder_name(name: str) -> str:
    """Return the name of a recipe as a folder can have it: not hidden, not too long, without control characters."""
    shown = "".join(char if char.isprintable() or char in "\u200c\u200d" else "_" for char in name).lstrip(".")
    return shown.encode()[:_NAME_BYTES].decode("utf-8", "ignore") or "run"


def _numbers(base: Path, name: str) -> list[int]:
    # Not a glob: a name may have brackets and stars.
    names = os.listdir(base) if base.is_dir() else []
    tails = [entry.removeprefix(f"{name}-") for entry in names if entry.startswith(f"{name}-")]
    return [int(tail) for tail in tails if tail.isdecimal()]


def is_run(path: Path) -> bool:
    """Return whether a folder is a run directory, with a recipe and a manifest."""
    return os.path.isfile(path / RECIPE) and os.path.isfile(path / MANIFEST)
