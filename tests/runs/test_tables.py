"""Tables of runs: the list, one run, and both as JSON."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from mamlcli.common.words import one_line
from mamlcli.runs.catalogue import find_runs
from mamlcli.runs.entry import read_run
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.manifest import Manifest
from mamlcli.runs.tables import (
    age,
    problems_text,
    run_parts,
    run_report,
    run_row,
    runs_table,
    value_text,
)
from tests.helpers.run_folders import NAMES, change_manifest, shown, with_manifest


def test_runs_of_a_folder_stand_under_its_name(runs, tmp_path):
    shutil.copytree(runs / "one", tmp_path / "all" / "study" / "cells" / "depth-9")
    table = shown(runs_table(find_runs(tmp_path / "all")))
    assert "study/cells/\n" in table.replace(" ", "")
    assert "  depth-9" in table


def test_a_run_at_work_says_how_far_it_is(runs):
    change_manifest(runs / "one", status="running")
    with RunDirectory(runs / "one").lock():
        assert "running 100 %" in shown(runs_table([read_run(runs / "one")]), 120)


@pytest.mark.parametrize("name", ["manifest.json", "recipe.yaml", "evaluation.json", "metrics.jsonl"])
def test_a_damaged_run_can_be_looked_at_all_the_same(runs, name):
    (runs / "one" / name).write_bytes(b"\xff{")
    run = read_run(runs / "one")
    text = shown(run_parts(run), 200)
    assert run.where in text
    assert run.status in text
    assert run_row(run)["status"] == run.status


def test_why_runs_are_damaged_or_failed_is_told_one_line_each(runs):
    (runs / "one" / "evaluation.json").unlink()
    change_manifest(runs / "two", status="failed", reason="no memory")
    text = problems_text(find_runs(runs)).plain
    assert text == "one: damaged: evaluation.json: no such file or directory\ntwo: failed: no memory"
    assert problems_text([read_run(runs / "line")]) is None


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind_are_shown_as_they_are(trained, name):
    entry = with_manifest(read_run(trained / "one", trained), recipe_name=name)
    for text in (shown(runs_table([entry]), 120), shown(run_parts(entry), 200)):
        assert one_line(name) in text
        assert "\x1b" not in text


def test_every_table_fits_80_columns(runs):
    change_manifest(runs / "one", status="interrupted")
    shutil.copytree(runs / "two", runs / ("a-very-long-name" * 6))
    entries = find_runs(runs)
    done = [run for run in entries if run.status == "done"]
    tables = [runs_table(entries), *run_parts(done[0])]
    assert max(len(line) for line in shown(tables).splitlines()) <= 80


def test_a_run_is_shown_with_what_its_manifest_says(trained):
    run = with_manifest(
        read_run(trained / "one"),
        argv=["/usr/bin/mamlcli", "train", "a b"],
        resumed_from=[3, 9],
        git={"commit": "0123456789abcdef", "is_dirty": True},
        execution={"threads": 2, "workers": 3, "dtype": "float64"},
        device="a processor",
        num_parameters=1234,
        num_transform_parameters=0,
        changes=[{"iteration": 3, "key": "execution.threads", "before": None, "now": 1}],
        started_from={"run": "/runs/a", "weights": "last, iteration 3", "digest": "0f"},
        earlier_results=[{"iterations": 3, "final": {"loss": {"mean": 0.5}, "accuracy": {"mean": None}}}],
    )
    lines = {line.split("  ")[0].strip(): line.rstrip() for line in shown(run_parts(run)[0], 200).splitlines()}
    assert lines["command"].endswith("mamlcli train 'a b'")
    assert lines["resumed from"].endswith("iteration 3, iteration 9")
    assert lines["git"].endswith("0123456789ab, with changes")
    assert lines["device"].endswith("a processor, float64, 2 threads, 3 workers")
    assert lines["parameters"].endswith("1,234")
    assert lines["changed"].endswith("execution.threads from null to 1 at iteration 3")
    assert lines["started from"].endswith("/runs/a, last, iteration 3, digest 0f")
    assert lines["earlier results"].endswith("after 3 iterations: loss 0.500")


def test_a_run_without_a_manifest_has_no_empty_lines(trained):
    run = dataclasses.replace(read_run(trained / "one"), manifest=Manifest({}))
    lines = shown(run_parts(run)[0], 200).splitlines()
    assert [line.split("  ")[0].strip() for line in lines[1:]] == ["status", "recipe", "iterations", "time"]


def test_json_of_a_run_holds_its_manifest_result_and_files(trained):
    report = run_report(read_run(trained / "one"))
    assert report["manifest"] == json.loads((trained / "one" / "manifest.json").read_text())
    assert report["evaluation"] == json.loads((trained / "one" / "evaluation.json").read_text())
    assert {"recipe.yaml", "tasks.csv", "checkpoints/last.safetensors"} <= set(report["files"])
    json.dumps(report, allow_nan=False)


def test_ages_are_in_the_unit_that_fits():
    assert [age(s) for s in (None, -5, 45, 3000, 7200, 40 * 3600)] == ["-", "0 s", "45 s", "50 min", "2.0 h", "2 d"]


def test_values_are_written_as_yaml_has_them():
    values = (None, True, False, 3, 0.5, "a\nb", [1, "x"])
    assert [value_text(value) for value in values] == ["null", "true", "false", "3", "0.5", "a\\nb", "1, x"]
