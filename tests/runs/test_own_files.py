"""The files of a run are told from others, and only they are deleted; no link in a run is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import mamlcli
from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.own_files import (
    RUN_FILES,
    check_no_link_below_run,
    check_no_links,
    foreign_names,
    is_begun,
    remove_files,
)

RECIPE = load_recipe("linear-regression")[1]


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "run", RECIPE, "a").path


def fill(run):
    """Put into a run all that commands write there."""
    for name in ("metrics.jsonl", "evaluation.json", "curve.png", ".last.safetensors.0123abcd.partial"):
        (run / name).write_text("x")
    (run / "checkpoints" / "last.safetensors").write_text("x")
    (run / "trackers" / "csv").mkdir(parents=True)
    (run / "trackers" / "csv" / "steps.csv").write_text("x")
    (run / "tensorboard" / "evaluation").mkdir(parents=True)
    for folder in ("tensorboard", "tensorboard/evaluation"):
        (run / folder / "events.out.tfevents.1.host.2.3").write_text("x")


def test_only_files_of_a_run_are_its_own(run):
    fill(run)
    assert foreign_names(run) == []
    for name in ("notes.txt", "checkpoints/notes.txt", "tensorboard/x", "tensorboard/evaluation/y"):
        (run / name).write_text("mine")
    (run / "figures").mkdir()
    (run / "curve.svg").mkdir()
    assert foreign_names(run) == [
        "checkpoints/notes.txt",
        "curve.svg",
        "figures",
        "notes.txt",
        "tensorboard/evaluation/y",
        "tensorboard/x",
    ]


def test_names_of_files_that_studies_add_are_those_of_their_modules():
    from mamlcli.studies.claims.evidence import OPERATORS
    from mamlcli.studies.claims.pilot_runs import DIVERGED
    from mamlcli.studies.layers.image_operators import HEAD_OPERATOR
    from mamlcli.studies.sweeps.cell_result import COLLAPSE
    from mamlcli.studies.sweeps.collapsed_control import CONTROL

    assert {OPERATORS, DIVERGED, HEAD_OPERATOR, COLLAPSE, CONTROL} <= set(RUN_FILES)
    assert 'folder / "layers.png"' in (Path(mamlcli.__file__).parent / "studies/layers/figure.py").read_text()


def test_removal_leaves_the_lock_and_what_links_lead_to(run, tmp_path):
    fill(run)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "last.safetensors").write_text("mine")
    (run / "checkpoints" / "last.safetensors").unlink()
    (run / "checkpoints").rmdir()
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    (run / "tasks.csv").symlink_to(tmp_path / "elsewhere" / "last.safetensors")
    (run / "lock").touch()
    remove_files(run)
    assert [path.name for path in run.iterdir()] == ["lock"]
    assert (tmp_path / "elsewhere" / "last.safetensors").read_text() == "mine"


def test_removal_that_is_cut_leaves_no_run(run, monkeypatch):
    fill(run)
    deleted = []
    unlink = os.unlink

    def cut(path):
        deleted.append(os.path.basename(path))
        if len(deleted) > 1:
            raise KeyboardInterrupt
        unlink(path)

    monkeypatch.setattr(os, "unlink", cut)
    with pytest.raises(KeyboardInterrupt):
        remove_files(run)
    assert deleted[0] == "manifest.json"
    monkeypatch.undo()
    remove_files(run)
    assert {path.name for path in run.iterdir()} <= {"lock"}


WRITTEN = ("checkpoints", "tensorboard", "tensorboard/evaluation", "trackers", "metrics.jsonl", "cells")


@pytest.mark.parametrize("name", WRITTEN)
def test_run_with_a_link_where_it_is_written_to_is_refused(run, tmp_path, name):
    (run / "checkpoints").rmdir()
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        RunError, match=rf"{name}: expected a file or folder of the run's own, got a link to .*elsewhere"
    ):
        check_no_links(run)
    with pytest.raises(RunError, match="got a link to"), RunDirectory(run).lock():
        pass


@pytest.mark.parametrize("name", ["plots", "plots/new", "plots/new/layers.png"])
def test_place_behind_a_link_in_a_run_is_not_written_to(run, tmp_path, monkeypatch, name):
    (tmp_path / "elsewhere").mkdir()
    (run / "plots").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(run.parent)
    for place in (run / name, Path(run.name) / name):
        with pytest.raises(RunError, match="plots: expected a file or folder of the run's own, got a link to"):
            check_no_link_below_run(place)


def test_links_of_the_user_outside_of_runs_lead_to_where_he_writes(run, tmp_path):
    (tmp_path / "project" / "checkpoints").mkdir(parents=True)  # which is no run for that
    (tmp_path / "project" / "results").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(run)
    for place in ("project/results/new", "project/results", "linked/layers.png", run / "layers.png"):
        check_no_link_below_run(tmp_path / place)


def test_folder_is_begun_until_more_than_making_it_is_done(run):
    assert not is_begun(run)
    (run / "manifest.json").unlink()
    (run / ".manifest.json.0123abcd.partial").touch()
    assert is_begun(run)
    (run / "checkpoints" / "last.safetensors").touch()
    assert not is_begun(run)
    (run / "checkpoints" / "last.safetensors").unlink()
    (run / "notes.txt").touch()
    assert not is_begun(run)
