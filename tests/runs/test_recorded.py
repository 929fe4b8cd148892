"""What a manifest says of the run's files: an edited recipe and lost metrics are noticed, and lists need no YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mamlcli.common import bounded
from mamlcli.common.errors import RunError
from mamlcli.recipe import files
from mamlcli.runs.catalogue import find_runs
from mamlcli.runs.entry import notices_of, read_run
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.going_on import recipe_changes
from tests.helpers.run_folders import change_manifest


def edit(run, old, new):
    text = (run / "recipe.yaml").read_text()
    assert old in text
    (run / "recipe.yaml").write_text(text.replace(old, new))


@pytest.fixture
def parsed(monkeypatch):
    """The files that were read as YAML."""
    return counted(monkeypatch, files, "tree_of")


def counted(monkeypatch, module, name):
    """Return a list to which each call of a function adds its first argument."""
    calls = []
    real = getattr(module, name)
    monkeypatch.setattr(module, name, lambda first, *args, **keys: calls.append(first) or real(first, *args, **keys))
    return calls


def test_lists_open_no_file_of_a_run_twice(runs, monkeypatch):
    change_manifest(runs / "two", recipe=None)
    opened = counted(monkeypatch, bounded, "open_regular")
    find_runs(runs)
    assert {path.name for path in map(Path, opened)} == {"manifest.json", "evaluation.json", "recipe.yaml"}
    assert len(set(opened)) == len(opened)


def test_lists_read_no_yaml_of_runs_whose_recipe_is_as_noted(runs, parsed):
    listed = find_runs(runs)
    assert parsed == []
    assert [run.status for run in listed] == ["done"] * len(listed)
    assert [run.recipe for run in listed] == [read_run(run.path).recipe for run in listed]


def test_lists_read_the_recipe_of_a_run_that_was_edited_or_is_of_an_earlier_version(runs, parsed):
    edit(runs / "one", "iterations: 2", "iterations: 7")
    change_manifest(runs / "two", recipe=None)
    numbers = {run.name: run.num_iterations for run in find_runs(runs)}
    assert len(parsed) == 2
    assert (numbers["one"], numbers["two"]) == (7, 2)


def test_a_noted_recipe_that_is_none_makes_the_run_damaged(runs):
    noted = json.loads((runs / "one" / "manifest.json").read_text())["recipe"]
    noted["keys"]["outer"]["iterations"] = "many"
    change_manifest(runs / "one", recipe=noted)
    run = next(run for run in find_runs(runs) if run.name == "one")
    assert run.status == "damaged"
    assert run.reason == "manifest.json: recipe.keys.outer.iterations: expected a recipe's value, got 'many'"


def test_an_edited_recipe_is_told_with_the_key_and_both_values(runs):
    assert notices_of(read_run(runs / "one")) == []
    edit(runs / "one", "seed: 0\ntasks:", "# a remark\nseed: 0\ntasks:")
    assert notices_of(read_run(runs / "one")) == []
    edit(runs / "one", "shots: 4", "shots: 5")
    (words,) = notices_of(read_run(runs / "one"))
    assert words == "recipe.yaml was edited after the run was trained by it: tasks.shots is 5, and was 4"


def test_lost_metrics_are_told(runs):
    path = runs / "one" / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    (words,) = notices_of(read_run(runs / "one"))
    assert words == "metrics.jsonl: the records of 1 step are missing (iteration 1)"


def test_a_run_does_not_go_on_by_a_recipe_that_was_edited_since(runs):
    run = RunDirectory(runs / "one")
    assert recipe_changes(run, run.recipe) == {}
    edit(run.path, "iterations: 2", "iterations: 9")
    assert recipe_changes(run, run.recipe, may_lengthen=True) == {"outer.iterations": (2, 9)}
    edit(run.path, "shots: 4", "shots: 5")
    words = r"recipe\.yaml: .*edited since: tasks\.shots \(4 then, 5 now\).*--from .* tasks\.shots=5$"
    with pytest.raises(RunError, match=words):
        recipe_changes(run, run.recipe, may_lengthen=True)
