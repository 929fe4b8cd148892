"""Finds runs on disk, and says which runs a word of the user means and how a run's recipe differs from others.

A folder that holds recipe.yaml, manifest.json or checkpoints/ is taken for a run. A run that cannot be read is listed
with the reason. Folders inside a run's folder are searched too, so that the cells of studies are found.
"""

from __future__ import annotations

import re
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import RunError
from mamlcli.common.words import nearest, one_line
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.files import load_recipe, recipe_from_tree, shipped_recipes
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.entry import RunEntry, read_run
from mamlcli.runs.manifest import FINISHED
from mamlcli.runs.models import like_model, run_folder
from mamlcli.runs.search import MANIFEST, RECIPE, RUN_MARKS, STUDY_MARK, run_folders


def find_runs(base: Path) -> list[RunEntry]:
    """Return every run in a folder and below it, sorted by name, with numbers in names compared by value.

    Raises:
        RunError: there is no such folder.
    """
    if not base.is_dir():
        got = "a file" if base.exists() else "no such folder"
        raise RunError(one_line(str(base)), expected="a folder of runs", got=got, next_step="Run: mamlcli train")
    runs = [read_run(path, base, is_listed=True) for path in run_folders(base)]
    return sorted(runs, key=lambda run: _natural(run.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key that puts `run-9` before `run-10`, and the runs of a folder together."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def resolve_run(text: str, base: Path) -> Path:
    """Return the folder that the user means by a path, by the name of a run below `base` or by that of a shipped model.

    Raises:
        RunError: none of them; the message names the nearest run or model there is.
    """
    for path in (Path(text), base / text):
        if text.strip() and path.is_dir():
            return path
    if (path := run_folder(Path(text))) != Path(text):
        return path
    names = [one_line(str(path.relative_to(base))) for path in run_folders(base) if path != base]
    got = "a file" if text.strip() and Path(text).exists() else "no such folder"
    hint = like_model(text) or nearest(text.removeprefix(f"{base}/"), names).strip() or None
    where, next_step = one_line(text).strip() or "RUN", "Run: mamlcli runs ls"
    raise RunError(where, expected="a run directory", got=got, why=hint, next_step=next_step)


def runs_at(path: Path) -> list[RunEntry]:
    """Return the run in a folder; for the folder of a study, return its finished cells.

    Raises:
        RunError: it is neither; the cells of a study are named if none is finished.
    """
    if any((path / mark).exists() for mark in RUN_MARKS):
        return [read_run(path)]
    where = one_line(str(path))
    if not (path / STUDY_MARK).is_file():
        got, next_step = f"a folder without {RECIPE} and {MANIFEST}", f"Run: {command('runs', 'ls', path)}"
        raise RunError(where, expected="a run directory", got=got, next_step=next_step)
    cells = [read_run(cell.path) for cell in find_runs(path)]
    finished = [cell for cell in cells if cell.status in FINISHED]
    if not finished:
        got = f"{len(cells)} cells, none of them finished"
        raise RunError(where, expected="a study with finished cells", got=got)
    return finished


def recipe_base(run: RunEntry) -> tuple[str, Recipe] | None:
    """Return a recipe to compare a run's recipe with, after words that say which it is.

    It is the shipped recipe of the same name. For a recipe of the user's own it is the schema's defaults for the same
    tasks and model. None if the run's recipe cannot be read.
    """
    if run.recipe is None:
        return None
    name = run.manifest.recipe_name or ""
    if name in shipped_recipes():
        return f"the shipped recipe {name}", load_recipe(str(shipped_recipes()[name]))[1]
    tree = {"tasks": {"source": run.recipe.tasks.source}, "model": {"kind": run.recipe.model.kind}}
    return f"the defaults ({one_line(name)} is not a shipped recipe)", recipe_from_tree(tree)


def changed_keys(run: RunEntry) -> dict[str, tuple[object, object]]:
    """Return the dotted keys in which a run's recipe differs from `recipe_base`: (value there, value here)."""
    base = recipe_base(run)
    assert run.recipe is not None, "a recipe that can be read"
    return {} if base is None else recipe_difference(base[1], run.recipe)
