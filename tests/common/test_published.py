"""Paths that others read."""

import pytest

from mamlcli.common.published import published_names, published_path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder: a project in a home."""
    project = tmp_path / "home" / "ann" / "project"
    project.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "ann"))
    monkeypatch.chdir(project)
    return project


def test_a_path_below_the_current_folder_is_read_from_there(here):
    for typed in ("runs/a", here / "runs" / "a", "../project/runs/a", "runs/b/../a"):
        assert published_path(typed) == "runs/a"


def test_of_a_path_elsewhere_the_last_name_is_left(here):
    for typed in ("../a", here.parents[1] / "bob" / "a", "/mnt/ann/a", "../../ann/runs/a"):
        assert published_path(typed) == "a"


@pytest.mark.parametrize("up", [2, 3])
def test_from_above_the_home_no_way_into_it_is_told(here, monkeypatch, up):
    monkeypatch.chdir(here.parents[up - 1])
    assert published_path(f"{'home/' * (up == 3)}ann/project/runs/a") == "a"
    assert published_path("/") == "."


def test_different_paths_stay_different_and_the_same_the_same(here):
    paths = ["runs/a", "../one/a", "../two/a", "../one/a"]
    assert published_names(paths) == ["runs/a", "a", "a (2)", "a"]
