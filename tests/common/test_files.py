"""Files are whole or as they were; JSON says null where there is no finite number; folders follow the environment."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.common.files import (
    atomic_write,
    cache_dir,
    can_be_made,
    data_dir,
    expanded,
    home_dir,
    json_text,
    temporary_dir,
)


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


@pytest.mark.parametrize("value", ["", "caches", "./caches", "~nobody-here/caches"])
def test_cache_variable_that_is_no_absolute_path_is_ignored(monkeypatch, tmp_path, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_dir() == tmp_path / ".cache" / "mamlcli"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/caches")
    assert cache_dir() == tmp_path / "caches" / "mamlcli"


@pytest.fixture
def no_home(monkeypatch):
    """Be a user whom the machine does not know, without HOME."""

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(os.path, "expanduser", str)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no user ids")
def test_user_without_a_home_has_a_cache_of_its_own_among_the_temporary_files(no_home, monkeypatch):
    assert home_dir() is None
    assert cache_dir() == Path(tempfile.gettempdir()) / f"mamlcli-{os.getuid()}"
    monkeypatch.delenv("MAMLCLI_DATA")
    assert data_dir() == cache_dir()


@pytest.mark.parametrize("home", ["", "here"])
def test_home_that_is_no_absolute_path_is_none(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    assert home_dir() is None


def test_no_place_for_temporary_files_is_no_error_by_itself(no_home, monkeypatch):
    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert temporary_dir() is None
    assert cache_dir().is_absolute()


def test_several_folders_of_packs_are_refused_with_the_first_to_name(monkeypatch, tmp_path):
    monkeypatch.setenv("MAMLCLI_DATA", os.pathsep.join(["/a b", "/c"]))
    with pytest.raises(MamlError, match=r"MAMLCLI_DATA: expected one folder, got 2: .*export MAMLCLI_DATA='/a b'"):
        data_dir()
    if os.name != "nt":  # a folder may have such a name
        (tmp_path / "a:b").mkdir()
        monkeypatch.setenv("MAMLCLI_DATA", str(tmp_path / "a:b"))
        assert data_dir() == tmp_path / "a:b"


def test_home_of_a_user_whom_nobody_knows_is_an_error_unless_a_file_has_that_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MamlError, match=r"~nobody-here/a: expected a path .* got the home of 'nobody-here'.*without ~"):
        expanded("~nobody-here/a")
    monkeypatch.setenv("MAMLCLI_DATA", "~nobody-here/a")
    with pytest.raises(MamlError, match=r"MAMLCLI_DATA: expected .* got '~nobody-here/a'"):
        data_dir()
    (tmp_path / "~nobody-here").mkdir()
    (tmp_path / "~nobody-here" / "a").touch()
    assert expanded("~nobody-here/a") == Path("~nobody-here/a")


def test_home_of_a_user_without_one_says_what_to_set(no_home):
    with pytest.raises(MamlError, match=r"~/r\.yaml: expected .* HOME is not set.*or set HOME"):
        expanded("~/r.yaml")


def test_folder_can_be_made_below_one_that_can_be_written_and_below_no_file(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert can_be_made(tmp_path / "a" / "b")
    assert not can_be_made(tmp_path / "file")
    assert not can_be_made(tmp_path / "file" / "a")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not can_be_made(tmp_path / "a")
