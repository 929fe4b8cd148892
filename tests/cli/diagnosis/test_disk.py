"""Disk: folders that are written to, and sizes in words."""

from __future__ import annotations

import os

from mamlcli.cli.diagnosis import disk
from mamlcli.cli.diagnosis.disk import folder_bytes, size
from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK


def test_a_folder_that_cannot_be_written_or_is_full_is_told(tmp_path, monkeypatch):
    def look(is_needed=True):
        return disk.folder_finding("runs", tmp_path / "runs", "effect", "remedy", is_needed=is_needed)

    assert look().status == OK
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert (look().status, look(is_needed=False).status) == (BROKEN, LACKING)
    monkeypatch.undo()
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: type("usage", (), {"free": 10 * 2**20}))
    assert (look().status, look().effect) == (BROKEN, "the disk is nearly full")


def test_sizes(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_bytes(b"x" * 2048)
    assert folder_bytes(tmp_path) == 2048
    assert folder_bytes(tmp_path / "nowhere") == 0
    assert [size(n) for n in (2048, 3 * 2**20, 20 * 2**30, None)] == ["2 kB", "3.0 MB", "20 GB", "an unknown amount"]


def test_a_folder_that_is_to_be_made_is_judged_by_the_one_that_is_there(tmp_path):
    finding = disk.folder_finding("runs", tmp_path / "a" / "b", "effect", "remedy", is_needed=True)
    assert finding.status == OK
    assert finding.found.startswith(f"{tmp_path}/a/b, ")
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_place_of_a_folder_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    finding = disk.folder_finding("runs", tmp_path / "file" / "runs", "effect", "remedy", is_needed=True)
    assert (finding.status, finding.effect, finding.remedy) == (BROKEN, "effect", "remedy")


def test_caches_are_told_with_what_they_hold(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled" / "code").write_bytes(b"x" * 4096)
    packs, compiled = disk.cache_findings()
    assert packs.found == f"none in {tmp_path}/cache/mamlcli"
    assert compiled.found == f"4 kB in {tmp_path}/compiled"
    assert compiled.details["bytes"] == 4096
