"""What runs there are and how each stands, read from their folders alone; imports no torch.

A folder is taken for a run if it holds recipe.yaml, manifest.json or checkpoints/. One that cannot be read is listed
with the reason. Folders below each other are searched too, so that the cells of studies are found.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mamlcli.errors import RecipeError, RunError, nearest
from mamlcli.recipe import Recipe
from mamlcli.recipe_changes import recipe_difference
from mamlcli.recipe_files import load_recipe, recipe_from_tree, shipped_recipes
from mamlcli.run_folders import RUN_MARKS, STUDY_MARK, run_folders

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock; whether a run is at work is then not known
    fcntl = None  # type: ignore[assignment]

# How a run can stand. "cut": it says that it runs, and no process does; "damaged": it cannot be read.
FINISHED = ("done", "stopped early")
STATUSES = (*FINISHED, "running", "interrupted", "failed", "created", "cut", "damaged")

SCORE_COLUMNS = ("support_loss", "support_accuracy", "query_loss", "query_accuracy")

PROTOCOL_KEYS = (
    "split", "num_tasks", "ways", "shots", "queries", "per_class", "inner_steps", "batch_norm", "seed",
)  # fmt: skip

_TAIL_BYTES = 1 << 16  # more than the last record of metrics.jsonl


@dataclass(frozen=True)
class RunEntry:
    """One run as its folder tells it.

    Attributes:
        path: the folder.
        name: its path below the folder that was searched, printable in one line.
        status: one of `STATUSES`.
        reason: why it is damaged or failed; None otherwise.
        manifest: the content of manifest.json; empty if it cannot be read.
        recipe: resolved; None if it cannot be read.
        report: the content of evaluation.json; None unless the run is finished and it can be read.
        iteration: meta-iterations done.
        wall_s: seconds it has worked so far; None if it is not known.
    """

    path: Path
    name: str
    status: str
    reason: str | None
    manifest: dict[str, Any]
    recipe: Recipe | None
    report: dict[str, Any] | None
    iteration: int
    wall_s: float | None

    @property
    def folder(self) -> str:
        """The folder as text that any file can hold: a byte that is no UTF-8 is written out."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")

    @property
    def where(self) -> str:
        """The folder in one printable line, for messages."""
        return one_line(self.folder)

    @property
    def recipe_name(self) -> str:
        return one_line(str(self.manifest.get("recipe_name", self.path.name)))

    @property
    def num_iterations(self) -> int | None:
        return None if self.recipe is None else self.recipe.outer.iterations

    @property
    def started_at(self) -> datetime | None:
        return _time(self.manifest.get("started_at"))

    def age_s(self, now: datetime | None = None) -> float | None:
        """Return the seconds since the run was started; None if it is not known."""
        started = self.started_at
        return None if started is None else ((now or datetime.now(timezone.utc)) - started).total_seconds()

    def final(self, metric: str) -> dict[str, float | None] | None:
        """Return mean and interval over tasks of "loss" or "accuracy" after adaptation; None if there is none."""
        return None if self.report is None else self.report["final"].get(metric)


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def one_line(text: str) -> str:
    """Return a text with every character that cannot be printed (line ends, escapes, stray bytes) written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def find_runs(base: Path) -> list[RunEntry]:
    """Return every run in a folder and below it, in the order of their names, numbers by value.

    Raises:
        RunError: there is no such folder.
    """
    if not base.is_dir():
        got = "a file" if base.exists() else "no such folder"
        raise RunError(one_line(str(base)), expected="a folder of runs", got=got, next_step="Run: mamlcli train")
    return sorted((read_run(path, base) for path in run_folders(base)), key=lambda run: _natural(run.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key that puts `run-9` before `run-10`, and the runs of a folder together."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def resolve_run(text: str, base: Path) -> Path:
    """Return the folder that the user means: a path, or the name of a run below `base`.

    Raises:
        RunError: neither; the message names the nearest run there is.
    """
    for path in (Path(text), base / text):
        if text.strip() and path.is_dir():
            return path
    names = [run.name for run in find_runs(base)] if base.is_dir() else []
    got = "a file" if text.strip() and Path(text).exists() else "no such folder"
    hint = nearest(text.removeprefix(f"{base}/"), names).strip() or None
    raise RunError(one_line(text).strip() or "RUN", expected="a run directory", got=got, why=hint,
                   next_step="Run: mamlcli runs ls")  # fmt: skip


def runs_at(path: Path) -> list[RunEntry]:
    """Return the run in a folder, or, for the folder of a study, all its finished cells.

    Raises:
        RunError: it is neither; the cells of a study are named if none is finished.
    """
    if any((path / mark).exists() for mark in RUN_MARKS):
        return [read_run(path)]
    if not (path / STUDY_MARK).is_file():
        raise RunError(one_line(str(path)), expected="a run directory", got="a folder without recipe.yaml and "
                       "manifest.json", next_step=f"Run: mamlcli runs ls {one_line(str(path))}")  # fmt: skip
    cells = [read_run(cell.path) for cell in find_runs(path)]
    finished = [cell for cell in cells if cell.status in FINISHED]
    if not finished:
        raise RunError(one_line(str(path)), expected="a study with finished cells",
                       got=f"{len(cells)} cells, none of them finished")  # fmt: skip
    return finished


def read_run(path: Path, base: Path | None = None) -> RunEntry:
    """Read one run's folder; what cannot be read makes it damaged, and is never an error.

    Args:
        path: the folder.
        base: the folder that names are relative to; by default names are whole paths.
    """
    relative = path.relative_to(base) if base is not None and path != base else path
    name = one_line(os.fsencode(relative).decode("utf-8", "backslashreplace"))
    problems: list[str] = []
    manifest = _json_object(path / "manifest.json", problems)
    recipe = _recipe(path / "recipe.yaml", problems)
    status, reason = str(manifest.get("status", "created")), manifest.get("reason")
    if status in ("running", "created"):
        status = "running" if _is_held(path / "lock") else ("cut" if status == "running" else status)
    report = _report(path / "evaluation.json", problems) if status in FINISHED else None
    if status not in STATUSES:
        problems.append(f"manifest.json: status: expected one of {', '.join(STATUSES)}, got {status!r}")
    last = _last_record(path / "metrics.jsonl")
    iteration, wall_s = manifest.get("iterations_done"), manifest.get("wall_s")
    if status in ("running", "cut"):
        iteration = last.get("iteration")
        # Until a resumed run has written its first record, the last one is of the process before.
        is_new = iteration not in manifest.get("resumed_from", [])[-1:]
        wall_s = (_number(wall_s) or 0.0) + (_number(last.get("elapsed_s")) or 0.0) * is_new
    if problems:
        status, reason = "damaged", "; ".join(problems)
    return RunEntry(
        path=path,
        name=name,
        status=status,
        reason=None if reason is None else one_line(str(reason)),
        manifest=manifest,
        recipe=recipe,
        report=report,
        iteration=iteration if isinstance(iteration, int) else 0,
        wall_s=_number(wall_s),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _json_object(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
        problems.append(f"{path.name}: expected a JSON object, got {type(value).__name__}")
    except OSError as error:
        problems.append(f"{path.name}: {(error.strerror or str(error)).lower()}")
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name}: not JSON ({error})" if path.stat().st_size else f"{path.name}: empty")
    return {}


def _recipe(path: Path, problems: list[str]) -> Recipe | None:
    if not path.is_file():
        problems.append("recipe.yaml: no such file or directory")
        return None
    try:
        return load_recipe(str(path))[1]
    except RecipeError as error:
        # The place is named without the folders above, which stand beside it.
        problems.append(error.problems[0].replace(str(path), path.name))
    except (OSError, UnicodeError) as error:
        problems.append(f"recipe.yaml: {error}")
    return None


def _report(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """Return the content of evaluation.json if it has what is read of it."""
    before = len(problems)
    report = _json_object(path, problems)
    if len(problems) > before:
        return None
    try:
        for point in [*report["curve"], report["final"]]:
            _ = point["step"], point["loss"]["mean"], point["support_loss"]["mean"]
        _ = [report["protocol"][key] for key in PROTOCOL_KEYS]
        _ = report["references"].items(), report["weights"], report["recipe"]
    except (KeyError, TypeError, AttributeError) as error:
        problems.append(f"{path.name}: not the result of a run ({type(error).__name__}: {error})")
        return None
    return report


def _is_held(lock: Path) -> bool:
    """Return whether a process works on the run: it holds the lock as long as it lives."""
    if fcntl is None or not lock.is_file():
        return False
    try:
        with lock.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _last_record(metrics: Path) -> dict[str, Any]:
    """Return the last whole record of metrics.jsonl without reading all of it; empty if there is none."""
    try:
        with metrics.open("rb") as stream:
            stream.seek(max(0, metrics.stat().st_size - _TAIL_BYTES))
            lines = stream.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        record = _record(line)
        if record is not None:
            return record
    return {}


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("iteration"), int) else None


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the whole records of a run's metrics.jsonl; lines that are not are left out."""
    try:
        lines = (run / "metrics.jsonl").read_bytes().splitlines()
    except OSError:
        return []
    return [record for line in lines if (record := _record(line)) is not None]


def read_scores(run: Path) -> NDArray[np.float64]:
    """Return a run's tasks.csv as [num_tasks, num_inner_steps + 1, 4], columns as `SCORE_COLUMNS`.

    Raises:
        RunError: the file is not there, or not whole.
    """
    path = run / "tasks.csv"
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        table = np.array(rows, dtype=np.float64)
        num_tasks, num_points = (int(table[:, column].max()) + 1 for column in (0, 1))
        if header != ["task", "inner_step", *SCORE_COLUMNS] or table.shape != (num_tasks * num_points, 6):
            raise ValueError("rows or columns are missing")
        expected = np.stack(np.divmod(np.arange(num_tasks * num_points), num_points), axis=1)
        if not np.array_equal(table[:, :2], expected):
            raise ValueError("rows are missing or out of order")
    except (OSError, ValueError, IndexError) as error:
        where = one_line(str(run))
        raise RunError(f"{where}/{path.name}", expected="the scores of a run's tasks", got=one_line(str(error)),
                       next_step=f"Run: mamlcli adapt {where} --out {where}") from error  # fmt: skip
    return table[:, 2:].reshape(num_tasks, num_points, len(SCORE_COLUMNS))


def recipe_base(run: RunEntry) -> tuple[str, Recipe] | None:
    """Return the recipe that a run's is best read against, and what it is in words.

    The shipped recipe of its name; for a recipe of the user's own, the schema's defaults for its tasks and model.
    """
    if run.recipe is None:
        return None
    name = str(run.manifest.get("recipe_name", ""))
    if name in shipped_recipes():
        return f"the shipped recipe {name}", load_recipe(str(shipped_recipes()[name]))[1]
    tree = {"tasks": {"source": run.recipe.tasks.source}, "model": {"kind": run.recipe.model.kind}}
    return f"the defaults ({one_line(name)} is not a shipped recipe)", recipe_from_tree(tree)


def changed_keys(run: RunEntry) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which a run's recipe differs from `recipe_base`, (there, here)."""
    base = recipe_base(run)
    assert run.recipe is not None, "a recipe that can be read"
    return {} if base is None else recipe_difference(base[1], run.recipe)
