"""Reads one run's folder into a RunEntry; a run with files that cannot be read is damaged."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from mamlcli.common.errors import RecipeError, RunError
from mamlcli.common.plugins import installed
from mamlcli.common.statistics import Score
from mamlcli.common.words import one_line
from mamlcli.recipe.plugins import GROUPS
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.manifest import FINISHED, Manifest
from mamlcli.runs.models import is_model, label_of
from mamlcli.runs.recorded import is_as_noted, listed_recipe, noted_recipe, notices
from mamlcli.runs.report import RunReport
from mamlcli.runs.search import MANIFEST

_Content = TypeVar("_Content")


# How a run can stand. "cut": it says that it runs, and no process does; "damaged": it cannot be read; "needs": it is
# of plug-ins of a package that is not installed.
STATUSES = (*FINISHED, "running", "interrupted", "failed", "created", "cut", "damaged", "needs")


@dataclass(frozen=True)
class RunEntry:
    """Holds what the folder of one run says.

    Attributes:
        path: the folder.
        name: its path below the folder that was searched, printable in one line.
        status: one of `STATUSES`.
        reason: why it is damaged or failed, or what it needs; None otherwise.
        manifest: what the run notes of itself; empty if it cannot be read.
        recipe: resolved; None if it cannot be read.
        report: its result; None unless the run is finished and it can be read.
        iteration: meta-iterations done.
        wall_s: seconds it has worked so far; None if it is not known.
    """

    path: Path
    name: str
    status: str
    reason: str | None
    manifest: Manifest
    recipe: Recipe | None
    report: RunReport | None
    iteration: int
    wall_s: float | None

    @property
    def folder(self) -> str:
        """The folder, or a shipped model's name, as text that any file can hold; bytes not UTF-8 are written out."""
        return _text_of(label_of(self.path))

    @property
    def where(self) -> str:
        """The folder, or a shipped model's name, in one printable line, for messages."""
        return one_line(self.folder)

    @property
    def recipe_name(self) -> str:
        """Name of the recipe in one printable line; of a run that does not note it, the name of its folder."""
        return one_line(self.manifest.recipe_name or self.path.name)

    @property
    def num_iterations(self) -> int | None:
        """Meta-iterations that the recipe asks for; None if the recipe cannot be read."""
        return None if self.recipe is None else self.recipe.outer.iterations

    @property
    def started_at(self) -> datetime | None:
        """Time of the first start; None if it is not known."""
        return _time(self.manifest.started_at)

    def age_s(self, now: datetime | None = None) -> float | None:
        """Return the seconds since the run was started; None if it is not known."""
        started = self.started_at
        return None if started is None else ((now or datetime.now(timezone.utc)) - started).total_seconds()

    def final(self, metric: str) -> Score | None:
        """Return the score of "loss" or "accuracy" on query sets after adaptation; None if there is none."""
        return None if self.report is None else self.report.final.of(metric)


def _text_of(path: Path | str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
        _ = time.astimezone(timezone.utc)  # at the end of all years there are times that have none
    except (ValueError, OverflowError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def read_run(path: Path, base: Path | None = None, *, is_listed: bool = False) -> RunEntry:
    """Read one run's folder. Files that cannot be read make the run damaged; they never raise an error.

    Args:
        path: the folder.
        base: the folder that names are relative to; by default names are whole paths.
        is_listed: one of many: where recipe.yaml is as the manifest notes it, its values are taken from there, which is
            far quicker than reading YAML.
    """
    relative = path.relative_to(base) if base is not None and path != base else label_of(path)
    name = one_line(_text_of(relative))
    problems: list[str] = []
    run = RunDirectory(path)
    manifest = _read(lambda: run.manifest, problems) or Manifest({})
    missing = missing_packages(manifest)
    recipe = None if missing else _recipe(run, manifest, problems, is_listed=is_listed)
    status, reason = manifest.status, manifest.reason
    if status in ("running", "created"):
        status = _standing(status, run.is_held())
    report = _read(run.read_report, problems) if status in FINISHED else None
    if status not in STATUSES:
        problems.append(f"{MANIFEST}: status: expected one of {', '.join(STATUSES)}, got {status!r}")
    iteration, wall_s = manifest.iterations_done, manifest.wall_s
    if status in ("running", "cut"):
        last = run.last_record()
        iteration = last.get("iteration")
        # Until a resumed run has written its first record, the last one is of the process before.
        is_new = iteration not in manifest.resumed_from[-1:]
        elapsed_s = last.get("elapsed_s") or 0.0
        wall_s = (wall_s or 0.0) + (elapsed_s if is_new and math.isfinite(elapsed_s) else 0.0)
    if problems:
        status, reason = "damaged", "; ".join(problems)
    elif missing:
        of_run = ", ".join(f"{name} {version}" for name, version in missing.items())
        status, reason = "needs", f"{of_run}, not installed here. Run: {shlex.join(['pip', 'install', *missing])}"
    return RunEntry(
        path=path,
        name=name,
        status=status,
        reason=None if reason is None else one_line(reason),
        manifest=manifest,
        recipe=recipe,
        report=report,
        iteration=iteration or 0,
        wall_s=wall_s,
    )


def missing_packages(manifest: Manifest) -> dict[str, str]:
    """Return the packages whose plug-ins a run names, and that are not installed: versions by name."""
    noted = {path: plugin for path, plugin in manifest.plugins.items() if path in GROUPS}
    return {
        str(plugin.get("package")): str(plugin.get("version"))
        for path, plugin in noted.items()
        if plugin.get("name") not in installed(GROUPS[path])
    }


def _noted(manifest: Manifest, problems: list[str]) -> Recipe | None:
    """Return the recipe that a manifest notes; None if it is none, and then add the reason to the problems."""
    try:
        return listed_recipe(manifest)
    except ValueError as error:
        problems.append(f"{MANIFEST}: {error}")
    return None


def _standing(noted: str, is_held: bool | None) -> str:
    """Return the status of a run that has not ended, from its manifest and its lock; in doubt by its manifest."""
    if is_held:
        return "running"
    return "cut" if noted == "running" and is_held is False else noted


def _read(read: Callable[[], _Content], problems: list[str]) -> _Content | None:
    """Return what a reader returns; None if it fails, and then add the reason to the problems."""
    try:
        return read()
    except RunError as error:
        problems.append(f"{Path(error.where).name}: {error.got}")
    return None


def _recipe(run: RunDirectory, manifest: Manifest, problems: list[str], *, is_listed: bool) -> Recipe | None:
    """Return the recipe; None if it cannot be read, and then add the reason to the problems."""
    path = run.recipe_path
    if is_listed and manifest.recipe_digest is not None and is_as_noted(path, manifest):
        return _noted(manifest, problems)
    if not path.is_file():
        problems.append(f"{path.name}: no such file or directory")
        return None
    try:
        return run.recipe
    except RecipeError as error:
        # Messages name the run already; the file alone is enough.
        problems.append(error.problems[0].replace(str(path), path.name))
    except (OSError, UnicodeError) as error:
        problems.append(f"{path.name}: {error}")
    return None


def notices_of(entry: RunEntry) -> list[str]:
    """Return in words what of a run's files is not as the run has left them: an edited recipe, lost metrics."""
    if is_model(entry.path):
        return []
    try:
        noted = noted_recipe(entry.manifest, MANIFEST)
    except RecipeError as error:
        return error.problems[:1]
    return notices(entry.manifest, entry.recipe, noted, RunDirectory(entry.path).metrics_path, entry.iteration)
