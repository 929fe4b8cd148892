"""Where runs and studies are, and the numbers of new ones."""

from __future__ import annotations

import os

import pytest

from mamlcli.runs.search import newest_run_path, next_run_path, run_folders, study_folders


def names_in(base):
    """Return the runs below a folder by their paths in it."""
    return sorted(str(path.relative_to(base)) for path in run_folders(base))


def make_runs(base, *names):
    for name in names:
        (base / name).mkdir(parents=True)
        (base / name / "recipe.yaml").touch()


@pytest.mark.parametrize("mark", ["recipe.yaml", "manifest.json", "checkpoints"])
def test_a_folder_with_one_mark_of_a_run_is_a_run(tmp_path, mark):
    (tmp_path / "a" / mark).mkdir(parents=True)
    (tmp_path / "b" / "notes").mkdir(parents=True)
    assert names_in(tmp_path) == ["a"]


def test_a_folder_with_a_study_is_a_study_and_its_cells_are_runs(tmp_path):
    make_runs(tmp_path, "depth/cells/a", "depth/cells/b")
    (tmp_path / "depth" / "study.json").touch()
    assert list(study_folders(tmp_path)) == [tmp_path / "depth"]
    assert names_in(tmp_path) == ["depth/cells/a", "depth/cells/b"]


def test_hidden_folders_and_folders_of_a_run_are_not_searched(tmp_path):
    make_runs(tmp_path, "a", "a/checkpoints/b", "a/tensorboard/c", ".trash/d")
    assert names_in(tmp_path) == ["a"]


def test_a_link_that_leads_back_is_followed_once(tmp_path):
    make_runs(tmp_path, "one", "two")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "0-link").symlink_to(tmp_path / "one", target_is_directory=True)
    assert names_in(tmp_path) == ["one", "two"]


def test_a_link_to_runs_elsewhere_is_followed(tmp_path):
    make_runs(tmp_path, "elsewhere/one")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "scratch").symlink_to(tmp_path / "elsewhere" / "one", target_is_directory=True)
    assert names_in(tmp_path / "here") == ["scratch"]


def test_a_folder_that_cannot_be_listed_is_taken_for_a_run(tmp_path, monkeypatch):
    make_runs(tmp_path, "one")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def denied(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert names_in(tmp_path) == ["closed", "one"]


def test_runs_are_numbered_one_above_the_highest(tmp_path):
    assert next_run_path(tmp_path / "runs", "a") == tmp_path / "runs" / "a-1"
    assert newest_run_path(tmp_path / "runs", "a") is None
    for name in ("a-1", "a-3", "a-10", "a-x", "a-b-99", "ab-77"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert next_run_path(tmp_path / "runs", "a").name == "a-11"
    assert newest_run_path(tmp_path / "runs", "a").name == "a-10"


@pytest.mark.parametrize("name", ["exp [v2]", "a*", "run?", "[!x]"])
def test_names_are_no_patterns(tmp_path, name):
    make_runs(tmp_path, f"{name}-1", "exp v-7", "ab-8", "runs-9")
    assert next_run_path(tmp_path, name) == tmp_path / f"{name}-2"
    assert newest_run_path(tmp_path, name) == tmp_path / f"{name}-1"
