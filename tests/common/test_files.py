"""Files are whole or as they were; JSON says null where there is no finite number; folders follow the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mamlcli.common.files import atomic_write, cache_dir, data_dir, json_text


def test_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.json"
    atomic_write(path, b"old")
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a.json"
    atomic_write(path, b"old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_file_is_as_readable_as_any_other_file_of_the_user(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_json_says_null_for_what_is_not_finite_however_deep():
    value = {"a": float("nan"), "b": [1.5, (float("inf"), -float("inf"))], "c": {"d": None}}
    assert json.loads(json_text(value)) == {"a": None, "b": [1.5, [None, None]], "c": {"d": None}}


def test_json_is_indented_text_with_its_letters_as_they_are():
    assert json_text({"name": "ä"}) == '{\n  "name": "ä"\n}\n'


def test_packs_are_in_the_folder_of_the_environment_else_in_the_cache(monkeypatch):
    monkeypatch.setenv("MAMLCLI_DATA", "~/packs")
    assert data_dir() == Path.home() / "packs"
    monkeypatch.delenv("MAMLCLI_DATA")
    assert data_dir() == cache_dir()


def test_cache_is_where_the_system_keeps_caches(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/mamlcli")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "mamlcli"
