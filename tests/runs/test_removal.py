"""Runs are deleted, and nothing else is."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.removal import remove_run


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "runs" / "a-1", load_recipe("linear-regression")[1], "a")


def test_only_a_run_directory_is_removed(run, tmp_path):
    remove_run(tmp_path / "nothing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="expected a run directory"):
        remove_run(tmp_path / "mine")
    with pytest.raises(RunError, match="got a file"):
        remove_run(tmp_path / "mine" / "thesis.txt")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
    remove_run(run.path)
    assert not run.path.exists()


def test_link_to_a_run_stays_and_leads_to_an_empty_folder(run, tmp_path):
    (run.path / "mine").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(run.path)
    remove_run(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert list(run.path.iterdir()) == []
    assert tmp_path.is_dir()
