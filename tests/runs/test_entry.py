"""One run as its folder tells it: how it stands, its names, and what is damaged."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime, timezone

import pytest

from mamlcli.common.words import one_line
from mamlcli.runs.entry import read_run
from mamlcli.runs.folder import RunDirectory
from tests.helpers.run_folders import NAMES, change_manifest


def test_a_run_is_what_its_files_say(runs):
    run = read_run(runs / "one")
    report = json.loads((runs / "one" / "evaluation.json").read_text())
    manifest = json.loads((runs / "one" / "manifest.json").read_text())
    assert (run.status, run.reason, run.recipe_name) == ("done", None, "logistic")
    assert run.final("accuracy").to_json() == report["final"]["accuracy"]
    assert run.final("loss").to_json() == report["final"]["loss"]
    assert (run.iteration, run.num_iterations, run.wall_s) == (2, 2, manifest["wall_s"])
    started = datetime.fromisoformat(manifest["started_at"])
    assert run.age_s(started.replace(year=started.year + 1)) == pytest.approx(365 * 86400, abs=86400)


def test_regression_has_a_loss_and_no_accuracy(runs):
    run = read_run(runs / "line")
    assert run.final("accuracy") is None
    assert run.final("loss").mean > 0


DAMAGE = {
    "no manifest": (lambda run: (run / "manifest.json").unlink(), "manifest.json: no such file"),
    "empty manifest": (lambda run: (run / "manifest.json").write_text(""), "manifest.json: an empty file"),
    "cut manifest": (lambda run: (run / "manifest.json").write_text('{"status": "do'), "manifest.json: not JSON"),
    "binary manifest": (lambda run: (run / "manifest.json").write_bytes(b"\xff\xfe\x00"), "manifest.json: not JSON"),
    "list manifest": (
        lambda run: (run / "manifest.json").write_text("[1]"),
        "no JSON object but a list",
    ),
    "unknown status": (lambda run: change_manifest(run, status="fine"), "status: expected one of done"),
    "no recipe": (lambda run: (run / "recipe.yaml").unlink(), "recipe.yaml: no such file"),
    "wrong recipe": (lambda run: (run / "recipe.yaml").write_text("tasks: {source: x}"), "recipe.yaml:1: tasks.source"),
    "binary recipe": (lambda run: (run / "recipe.yaml").write_bytes(b"\xff\xfe\x00"), "got a damaged file in UTF-16"),
    "no result": (lambda run: (run / "evaluation.json").unlink(), "evaluation.json: no such file"),
    "cut result": (lambda run: (run / "evaluation.json").write_text("{"), "evaluation.json: not JSON"),
    "other result": (
        lambda run: (run / "evaluation.json").write_text("{}"),
        "evaluation.json: curve: expected a list, got None",
    ),
    "folder": (
        lambda run: ((run / "manifest.json").unlink(), (run / "manifest.json").mkdir()),
        "manifest.json: a folder",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_run_that_cannot_be_read_is_damaged_with_the_reason(runs, kind):
    damage, reason = DAMAGE[kind]
    damage(runs / "one")
    run = read_run(runs / "one")
    assert run.status == "damaged"
    assert reason in run.reason
    assert "\n" not in run.reason


def test_several_things_that_are_wrong_are_all_named(runs):
    (runs / "one" / "manifest.json").unlink()
    (runs / "one" / "recipe.yaml").unlink()
    assert read_run(runs / "one").reason.count("no such file") == 2


def test_a_folder_that_cannot_be_listed_is_damaged(tmp_path, monkeypatch):
    def denied(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.open", denied)
    assert "manifest.json: permission denied" in read_run(tmp_path).reason


def test_a_run_at_work_is_told_from_one_that_was_killed(runs):
    change_manifest(runs / "one", status="running", wall_s=1.5)
    assert read_run(runs / "one").status == "cut"
    with RunDirectory(runs / "one").lock():
        assert read_run(runs / "one").status == "running"


def test_the_time_of_a_run_at_work_is_that_of_its_last_record(runs):
    change_manifest(runs / "one", status="running", wall_s=1.5)
    last = json.loads((runs / "one" / "metrics.jsonl").read_text().splitlines()[-1])
    run = read_run(runs / "one")
    assert run.iteration == 2
    assert run.wall_s == pytest.approx(1.5 + last["elapsed_s"])


def test_a_resumed_run_without_new_records_has_worked_as_long_as_before(runs):
    change_manifest(runs / "one", status="running", wall_s=1.5, resumed_from=[2])
    assert read_run(runs / "one").wall_s == 1.5


def test_looking_at_a_run_does_not_lock_it(runs):
    change_manifest(runs / "one", status="running")
    assert read_run(runs / "one").status == "cut"
    with RunDirectory(runs / "one").lock():
        assert read_run(runs / "one").status == "running"


@pytest.mark.parametrize("content", [b"", b"{", b'{"kind": "step", "iteration": 7, "elapsed_s": 2}\n{"kind": "st'])
def test_metrics_that_end_in_the_middle_are_read_to_their_last_whole_line(runs, content):
    change_manifest(runs / "one", status="running", wall_s=0.0)
    (runs / "one" / "metrics.jsonl").write_bytes(content)
    assert read_run(runs / "one").iteration == (7 if b"7" in content else 0)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind_are_in_one_line(trained, tmp_path, name):
    shutil.copytree(trained / "one", tmp_path / name)
    change_manifest(tmp_path / name, recipe_name=name)
    run = read_run(tmp_path / name, tmp_path)
    assert run.recipe_name == run.name == one_line(name)


def test_a_name_of_bytes_that_are_no_text_is_written_out(trained, tmp_path):
    run = tmp_path / os.fsdecode(b"bad\xff")
    try:
        shutil.copytree(trained / "one", run)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    entry = read_run(run, tmp_path)
    assert entry.name in ("bad\\\\xff", "bad\\xff")
    assert entry.folder.encode().endswith(b"bad\\xff")


def test_ages_are_counted_from_now(runs):
    assert 0 <= read_run(runs / "one").age_s(datetime.now(timezone.utc)) < 3600


def test_a_run_without_a_time_has_no_age(runs):
    change_manifest(runs / "one", started_at="yesterday")
    assert read_run(runs / "one").age_s() is None


def test_a_run_whose_package_is_not_installed_needs_it(runs):
    plugins = {"model": {"name": "net", "package": "one-file", "version": "1.5"}}
    RunDirectory(runs / "one").update_manifest({"plugins": plugins})
    for is_listed in (True, False):
        run = read_run(runs / "one", is_listed=is_listed)
        assert (run.status, run.recipe) == ("needs", None)
        assert run.reason == "one-file 1.5, not installed here. Run: pip install one-file"
    assert run.final("loss") is not None
