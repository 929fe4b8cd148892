"""The folder of a study is opened here and checked against what is asked, and its result is written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mamlcli.common.disk import write_error
from mamlcli.common.errors import RunError, TakenError
from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.json_reading import items, json_object, mapping, maybe, reason, text, whole
from mamlcli.common.names import PATH_KEY
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.files import recipe_from_tree
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.lock import held_lock
from mamlcli.runs.own_files import CELLS, is_begun
from mamlcli.runs.search import STUDY_MARK, is_run
from mamlcli.studies.sweeps.collection import result_csv
from mamlcli.studies.sweeps.figure import save_study_figure
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.sweep import Sweep
from mamlcli.training.data_place import check_same

# Where runs compute, and where their data are, as keys of a recipe; they are no part of what a study asks.
DEVICE = "execution.device"
ELSEWHERE = (DEVICE, PATH_KEY)


def write_result(path: Path, result: StudyResult) -> None:
    """Write result.json, table.csv, figure.png and figure.svg to a study's folder."""
    atomic_write(path / "result.json", json_text(result.to_json()).encode())
    atomic_write(path / "table.csv", result_csv(result).encode())
    if result.cells:
        save_study_figure(result, path)


def read_settings(file: Path) -> dict[str, Any]:
    """Return the settings in a study.json.

    Raises:
        RunError: it cannot be read, or a key holds what it cannot mean; the message says which.
    """
    try:
        settings = json_object(file)
        items(settings.get("seeds"), "seeds", partial(whole, least=-(2**64), most=2**64))
        mapping(settings.get("recipe"), "recipe")
        maybe(settings.get("command"), "command", text)
    except (OSError, ValueError) as error:
        next_step = f"Restore the file, or name another --dir: {file.parent} holds the runs that it speaks of"
        expected = "the settings of a study, with its recipe and seeds"
        raise RunError(str(file), expected=expected, got=reason(error), next_step=next_step) from error
    return settings


def begun_sweep(path: Path, sweep: Sweep) -> Sweep:
    """Return the sweep under the rule by which the folder's study draws its tasks.

    Older versions scored all seeds on common tasks, and their study.json says nothing of tasks; such a study goes on
    so to its end, or its seeds would not be alike. A new one gives each seed tasks of its own.
    """
    try:
        settings = read_settings(path / "study.json")
    except RunError:  # none yet; a damaged one is told of by `open_study`
        return sweep
    return replace(sweep, has_common_tasks="tasks" not in settings)


def open_study(path: Path, sweep: Sweep, command: str, digest: str | None = None) -> bool:
    """Make a study's folder, or check that the folder there is this study's.

    It may have other seeds from the same first one upwards: more are added to it, and with fewer the rest are left.
    It may have been made on another device, and its data may have been in another place, too.

    Args:
        path: the folder.
        sweep: the study.
        command: that continues it.
        digest: of its data; None for tasks that are generated.

    Returns:
        Whether it was there already.

    Raises:
        RunError: the folder is another study's, something else, in use, or cannot be written.
    """
    file = path / "study.json"
    if not file.is_file():
        _make_folder(path, {**sweep.settings(), "command": command})
        return False
    settings = read_settings(file)
    difference = _settings_difference(settings, sweep)
    if difference:
        raise RunError(
            str(path),
            expected="a folder of this study",
            got=f"another study's: {', '.join(difference)}",
            next_step=f"Name another --dir, or continue that one: {settings.get('command', '')}",
        )
    if digest is not None:
        _check_same_data(path, digest)
    if len(sweep.seeds) > len(settings["seeds"]):
        with RunDirectory(path).lock():
            _write_settings(path, {**settings, "seeds": list(sweep.seeds), "command": command})
    return True


def _check_same_data(path: Path, digest: str) -> None:
    """Raise RunError if a cell of the study was trained on other data."""
    for cell in sorted((path / "cells").glob("*")):
        if is_run(cell):
            check_same(RunDirectory(cell), digest)


def _make_folder(path: Path, settings: Mapping[str, object]) -> None:
    """Make the folder of a new study; one that was cut while it was made is taken."""
    expected, next_step = "a folder that can be written", "Name another --dir"
    try:
        _check_new(path)
        path.mkdir(parents=True, exist_ok=True)
        with held_lock(path):
            _check_new(path)
            (path / CELLS).mkdir(exist_ok=True)
            _write_settings(path, settings)
    except OSError as error:
        raise write_error(error, str(path), expected=expected, next_step=next_step) from error
    except ValueError as error:
        got = "a name with characters that no file can have"
        raise RunError(str(path), expected=expected, got=got, next_step=next_step) from error


def _check_new(path: Path) -> None:
    """Raise RunError unless a new study can be made at a path; TakenError where one has just been made."""
    if not os.path.lexists(path) or (os.path.isdir(path) and is_begun(path)):
        return
    got = "a folder of something else" if os.path.isdir(path) else "a file"
    kind = TakenError if os.path.isfile(path / STUDY_MARK) else RunError
    expected = "a new or empty folder, or one of this study"
    raise kind(str(path), expected=expected, got=got, next_step="Name another --dir")


def _write_settings(path: Path, settings: Mapping[str, object]) -> None:
    atomic_write(path / "study.json", (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode())


def _settings_difference(there: Mapping[str, Any], sweep: Sweep) -> list[str]:
    """Return in words what another study's settings have otherwise; none for settings of the same study."""
    here = json.loads(json.dumps(sweep.settings()))
    # Seeds count up from the recipe's, which is compared below, so that more of them are a superset.
    keys = [key for key in here if key not in ("recipe", "seeds") and there.get(key) != here[key]]
    differences = {key: (there.get(key), here[key]) for key in keys}
    old = recipe_from_tree(there["recipe"], where="study.json")
    of_recipe = recipe_difference(old, sweep.recipe)
    differences |= {f"recipe.{key}": pair for key, pair in of_recipe.items() if key not in ELSEWHERE}
    return [f"{key} ({old!r} there, {new!r} here)" for key, (old, new) in differences.items()]
