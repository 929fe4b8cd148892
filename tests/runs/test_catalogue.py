"""Which runs there are, in which order, and which one a word means."""

from __future__ import annotations

import shutil

import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.catalogue import changed_keys, find_runs, recipe_base, resolve_run, runs_at
from mamlcli.runs.entry import read_run
from tests.helpers.run_folders import change_manifest


def test_runs_are_found_below_folders_and_in_the_order_of_their_numbers(runs, tmp_path):
    cells = tmp_path / "all" / "study" / "cells"
    cells.mkdir(parents=True)
    for name in ("depth-10-seed-0", "depth-9-seed-0"):
        shutil.copytree(runs / "one", cells / name)
    shutil.copytree(runs / "one", tmp_path / "all" / "a" / "b" / "c")
    names = [run.name for run in find_runs(tmp_path / "all")]
    assert names == ["a/b/c", "study/cells/depth-9-seed-0", "study/cells/depth-10-seed-0"]


def test_a_folder_without_runs_has_none(tmp_path):
    (tmp_path / "empty" / "notes").mkdir(parents=True)
    (tmp_path / "empty" / "notes" / "a.txt").write_text("a text")
    assert find_runs(tmp_path / "empty") == []


def test_no_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for name, got in (("nothing", "no such folder"), ("file", "a file")):
        with pytest.raises(RunError, match=f"expected a folder of runs, got {got}"):
            find_runs(tmp_path / name)


def test_a_study_stands_for_its_finished_cells(runs, tmp_path):
    study = tmp_path / "study"
    (study / "cells").mkdir(parents=True)
    (study / "study.json").write_text("{}")
    with pytest.raises(RunError, match="0 cells, none of them finished"):
        runs_at(study)
    for name in ("depth-2", "depth-1"):
        shutil.copytree(runs / "one", study / "cells" / name)
    change_manifest(study / "cells" / "depth-2", status="failed")
    assert [run.path.name for run in runs_at(study)] == ["depth-1"]


def test_a_run_is_named_by_its_path_or_below_the_base(runs):
    assert resolve_run("one", runs) == runs / "one"
    assert resolve_run(str(runs / "one"), runs) == runs / "one"
    with pytest.raises(RunError, match=r"expected a run directory, got no such folder. Did you mean 'other-tasks'\?"):
        resolve_run("other-taks", runs)
    with pytest.raises(RunError, match="RUN: expected a run directory"):
        resolve_run(" ", runs)


def test_changed_keys_are_those_that_were_changed(runs):
    run = read_run(runs / "two")
    words, shipped = recipe_base(run)
    assert words == "the shipped recipe logistic"
    assert shipped == load_recipe("logistic")[1]
    changed = changed_keys(run)
    assert changed["model.depth"] == (1, 2)
    assert changed["seed"] == (0, 1)
    assert "inner.lr" not in changed


def test_a_recipe_of_ones_own_is_read_against_the_defaults(runs):
    change_manifest(runs / "two", recipe_name="mine")
    run = read_run(runs / "two")
    assert recipe_base(run)[0] == "the defaults (mine is not a shipped recipe)"
    assert changed_keys(run)["model.depth"] == (1, 2)


def test_a_recipe_that_cannot_be_read_is_read_against_nothing(runs):
    (runs / "one" / "recipe.yaml").unlink()
    assert recipe_base(read_run(runs / "one")) is None
