"""What the environment says of folders: what is wrong is found, with what would fail and what mends it."""

from __future__ import annotations

import os
import tempfile

import pytest

from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK
from mamlcli.cli.diagnosis.places import place_findings


def found():
    return {finding.name: finding for finding in place_findings()}


@pytest.fixture(autouse=True)
def good(tmp_path, monkeypatch):
    """Begin with a home and a folder of packs that are as they should be."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "MPLCONFIGDIR", "TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)


def test_only_the_home_is_told_where_all_is_well(tmp_path):
    assert [(name, finding.status) for name, finding in found().items()] == [("home", OK)]
    assert found()["home"].found == f"{tmp_path}, named by HOME"


def test_home_that_is_a_file_is_told_with_what_does_not_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    home = found()["home"]
    assert home.status == LACKING
    assert "no folder" in home.found
    assert home.effect == "the cache cannot be written: glyphs are drawn anew by every command"
    assert home.remedy == "Set HOME or XDG_CACHE_HOME to a folder of yours"
    assert found()["matplotlib"].remedy == "Set MPLCONFIGDIR to a folder of yours"


def test_no_home_at_all_is_told_with_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("XDG_CACHE_HOME")
    home = found()["home"]
    assert (home.status, home.found) == (LACKING, "HOME is empty, and the list of users has none")
    assert home.effect.startswith(f"the cache is {tempfile.gettempdir()}")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert found()["home"].effect == "~ in paths is not understood"


def test_cache_variable_that_is_ignored_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    finding = found()["XDG_CACHE_HOME"]
    assert (finding.status, finding.effect) == (LACKING, f"it is ignored; the cache is {tmp_path}/.cache/mamlcli")


def test_folder_of_packs_that_depends_on_the_current_folder_is_told(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAMLCLI_DATA", "my packs")
    assert found()["MAMLCLI_DATA"].remedy == f"export MAMLCLI_DATA='{tmp_path}/my packs'"


@pytest.mark.parametrize("value", [f"/a{os.pathsep}/b", "~nobody-here/packs"])
def test_folder_of_packs_that_cannot_be_is_broken(monkeypatch, value):
    monkeypatch.setenv("MAMLCLI_DATA", value)
    assert found()["MAMLCLI_DATA"].status == BROKEN


def test_temporary_folder_that_is_not_used_or_not_there_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # Python remembers its choice
    assert found()["TMPDIR"].effect == f"temporary files go to {tempfile.gettempdir()}"

    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert found()["temporary"].effect == "--workers and torch.compile do not work"
