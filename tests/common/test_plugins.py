"""Names that packages add, found without loading any."""

from __future__ import annotations

import sys

import pytest

from mamlcli.common.plugins import TRACKERS, installed, tracker_names, unknown_tracker
from tests.helpers.trackers import install_tracker


@pytest.fixture(autouse=True)
def fresh():
    yield
    installed.cache_clear()


def test_names_of_packages_stand_behind_ours_and_nothing_is_imported(monkeypatch, tmp_path):
    install_tracker(monkeypatch, tmp_path / "site", "raise RuntimeError", lines="Lines", csv="Csv")
    assert tracker_names() == ("none", "tensorboard", "csv", "mlflow", "lines")
    assert unknown_tracker("lines") is None
    assert unknown_tracker("csv") is None
    assert "tracking" not in sys.modules


def test_name_that_is_not_there_says_which_are():
    assert str(unknown_tracker("wandb")).startswith("one or several of none, tensorboard, csv, mlflow")


def test_name_that_two_packages_have_is_of_neither(monkeypatch, tmp_path):
    install_tracker(monkeypatch, tmp_path / "site", "", lines="Lines")
    other = tmp_path / "other" / "second-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: second\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[mamlcli.trackers]\nlines = second:Lines\n../up = second:Lines\n")
    monkeypatch.syspath_prepend(str(other.parent))
    installed.cache_clear()
    assert "second" in str(unknown_tracker("lines"))
    assert "tracking" in str(unknown_tracker("lines"))
    assert "../up" not in installed(TRACKERS)
