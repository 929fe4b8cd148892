"""Shipped models by name: what is a name, which folder it means, and that paths and runs win."""

from __future__ import annotations

from pathlib import Path

import pytest

from mamlcli.common.errors import RunError
from mamlcli.runs.entry import read_run
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.models import (
    card_sections,
    folder_bytes,
    is_model,
    label_of,
    like_model,
    model_folder,
    models_dir,
    run_folder,
    shipped_models,
)
from mamlcli.runs.place import check_free
from tests.helpers.models import GLYPHS, named_copies, use_models_dir


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_models_are_listed_with_their_versions_by_number(tmp_path, monkeypatch):
    names = ["a-b@1", "a@2", "a@10"]
    for name in reversed(names):
        (tmp_path / "models" / name).mkdir(parents=True)
    (tmp_path / "models" / "notes@txt").write_text("no folder")
    use_models_dir(monkeypatch, tmp_path / "models")
    assert list(shipped_models()) == ["a@2", "a@10", "a-b@1"]


def test_a_name_means_the_folder_in_the_package(here):
    assert run_folder(Path(GLYPHS)) == model_folder(GLYPHS) == models_dir() / GLYPHS
    run = RunDirectory.open(Path(GLYPHS))
    assert (run.label, run.name) == (GLYPHS, "glyphs-5way-1shot")
    assert is_model(run.path)
    entry = read_run(run.path)
    assert (entry.name, entry.folder, entry.where) == (GLYPHS, GLYPHS, GLYPHS)


def test_a_folder_of_that_name_in_the_working_directory_wins(here):
    (here / GLYPHS).mkdir()
    assert run_folder(Path(GLYPHS)) == Path(GLYPHS)
    with pytest.raises(RunError, match=r"got a folder without recipe.yaml and manifest.json"):
        RunDirectory.open(Path(GLYPHS))
    assert label_of(here / GLYPHS) == str(here / GLYPHS)


@pytest.mark.parametrize("text", ["glyphs-5way-1shot", f"runs/{GLYPHS}", f"tasks.path={GLYPHS}", "", "a b@1"])
def test_what_has_not_the_form_of_a_name_is_a_path(here, text):
    assert run_folder(Path(text)) == Path(text)


@pytest.mark.parametrize("name", ["glyphs-5way-1shot@2", "glyps-5way-1shot@1"])
def test_a_name_that_is_not_there_is_told_with_the_nearest(here, name):
    expected = (
        f"{name}: expected a run directory or a trained model that ships with mamlcli, got neither. Did you mean "
        f"'{GLYPHS}'? Run: mamlcli models ls"
    )
    for find in (run_folder, RunDirectory.open):
        with pytest.raises(RunError) as raised:
            find(Path(name))
        assert str(raised.value) == expected
    with pytest.raises(RunError, match=r"^zz: expected a trained model .*, got none\. Run: mamlcli models ls$"):
        model_folder("zz")


def test_a_word_without_a_version_is_no_name_but_is_understood(here):
    assert like_model("glyphs-5way-1shot") == f"Did you mean '{GLYPHS}'?"
    assert like_model("glyphs-5way") is None
    with pytest.raises(RunError, match=f"got no such folder. Did you mean '{GLYPHS}'"):
        RunDirectory.open(Path("glyphs-5way-1shot"))


def test_nothing_is_written_to_a_model(tmp_path, monkeypatch):
    folder = use_models_dir(monkeypatch, tmp_path / "models")
    monkeypatch.undo()
    named_copies(folder, "a@1")
    use_models_dir(monkeypatch, folder)
    run = RunDirectory.open(folder / "a@1")
    for change in (run.check_writable, run.lock().__enter__):
        with pytest.raises(RunError, match="a@1: expected a run that can be written to, got a trained model"):
            change()
    with pytest.raises(RunError, match="expected a run of yours, got a trained model of mamlcli"):
        check_free(run.path, is_forced=True)
    assert run.read_report().recipe == "glyphs-5way-1shot"


def test_sections_of_a_card_are_found_by_their_titles():
    text = card_sections(model_folder(GLYPHS), ("Limits", "Training"))
    assert text.startswith("## Training\nOne run of the recipe `glyphs-5way-1shot` with seed 0: 300 meta-iterations")
    assert [line for line in text.splitlines() if line.startswith("#")] == ["## Training", "## Limits"]


def test_bytes_of_a_folder_are_those_of_all_its_files(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "below" / "b").write_bytes(b"4567")
    assert folder_bytes(tmp_path) == 7


@pytest.mark.parametrize("name", ["glyphs-5way-1shot@"])
def test_half_a_name_is_taken_for_a_model_s_with_the_nearest(name):
    with pytest.raises(RunError, match=rf"{name}: expected .*models ls"):
        run_folder(Path(name))


def test_empty_name_is_told_as_it_is():
    with pytest.raises(RunError, match=r"^'': expected a trained model"):
        model_folder("")
