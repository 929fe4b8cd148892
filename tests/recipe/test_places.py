"""Paths that are typed lead to the same place from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mamlcli.recipe.files import load_recipe
from mamlcli.recipe.places import data_path, path_of_run, whole_path, with_published_path, with_whole_path


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        ("photos", "{cwd}/photos"),
        ("./photos/", "{cwd}/photos"),
        ("/data/photos", "/data/photos"),
        ("~/photos", "/home/ann/photos"),
        ("$DATA/photos", "/data/photos"),
        ("${DATA}/a b", "/data/a b"),
    ],
)
def test_path_is_written_out(tmp_path, monkeypatch, typed, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("DATA", "/data")
    assert whole_path(typed) == place.format(cwd=tmp_path)


def test_folder_above_is_that_above_where_a_link_leads_to(tmp_path, monkeypatch):
    (tmp_path / "far" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "inside")
    monkeypatch.chdir(tmp_path)
    assert whole_path("link/../photos") == str(tmp_path / "far" / "photos")
    assert whole_path("link") == str(tmp_path / "link")


def test_recipe_without_a_path_stays_as_it_is():
    for name in ("sinusoid", "glyphs-5way-1shot", "folder"):
        recipe = load_recipe(name)[1]
        assert data_path(recipe) is None
        assert with_whole_path(recipe) is recipe


def test_folder_of_a_run_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    assert path_of_run(".") == tmp_path
    assert path_of_run(Path("..")) == tmp_path.parent
    assert path_of_run("~/runs/a") == Path("/home/ann/runs/a")
    assert path_of_run("runs/a") == Path("runs/a")


def test_a_published_recipe_tells_no_place_of_its_data(tmp_path):
    recipe = load_recipe("folder", [f"tasks.path={tmp_path / 'ann' / 'pets'}"])[1]
    assert data_path(with_published_path(recipe)) == "pets"
    generated = load_recipe("logistic")[1]
    assert with_published_path(generated) == generated
