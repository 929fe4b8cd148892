"""Files are whole or as they were; JSON says null where there is no finite number; folders follow the environment."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tempfile
from pathlib import Path

import pytest

from mamlcli.common.errors import DataError, MamlError
from mamlcli.common.files import (
    TextFileError,
    atomic_write,
    cache_dir,
    can_be_made,
    data_dir,
    expanded,
    home_dir,
    json_text,
    temporary_dir,
    text_of,
    user_path,
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
        raise OSError(errno.ENOSPC, "No space left on device", "a.json.partial", None, "a.json")

    monkeypatch.setattr(os, step, fail)
    said = f"[Errno {errno.ENOSPC}] No space left on device: {str(path)!r}"
    with pytest.raises(OSError, match=f"^{re.escape(said)}$"):
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


# Text files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_with_its_mark_is_read_in_its_encoding(encoding):
    assert text_of("a: fünf 照片\n".encode(encoding)) == "a: fünf 照片\n"


def test_marks_of_both_orders_of_bytes_are_known():
    assert text_of(b"\xff\xfe" + "fünf".encode("utf-16-le")) == "fünf"
    assert text_of(b"\xfe\xff" + "fünf".encode("utf-16-be")) == "fünf"


@pytest.mark.parametrize(
    ("data", "got"),
    [
        ("a\nfünf".encode("latin-1"), "Latin-1 or Windows-1252 (byte 0xfc in line 2); save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n\xff", "a binary file"),
        (b"\xff\xfea", "a damaged file in UTF-16"),
    ],
)
def test_bytes_that_are_no_text_are_named_for_what_they_look_like(data, got):
    with pytest.raises(TextFileError) as caught:
        text_of(data)
    assert str(caught.value).endswith(got)


def test_json_of_bytes_that_are_no_text_can_be_encoded_and_read_back():
    name = os.fsdecode(b"a\xff")
    assert json.loads(json_text({"name": name}).encode("utf-8")) == {"name": name}


def test_json_of_ascii_alone_is_the_same_document():
    value = {"ä": "照 \U0001f600"}
    assert json_text(value, is_ascii=True).isascii()
    assert json.loads(json_text(value, is_ascii=True)) == value


# Paths of people ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["$SCRATCH/photos", "${SCRATCH}/photos"])
def test_variables_of_a_path_are_expanded(monkeypatch, text):
    monkeypatch.setenv("SCRATCH", "/scratch")
    assert user_path(text, "tasks.path") == Path("/scratch/photos")


def test_home_is_expanded_also_in_a_variable(monkeypatch):
    monkeypatch.setenv("SCRATCH", "~/scratch")
    assert user_path("~/photos", "tasks.path") == Path.home() / "photos"
    assert user_path("$SCRATCH", "tasks.path") == Path.home() / "scratch"


def test_variable_that_is_not_set_is_refused(monkeypatch):
    monkeypatch.delenv("SCRATCH", raising=False)
    with pytest.raises(DataError) as caught:
        user_path("$SCRATCH/photos", "tasks.path")
    assert str(caught.value) == (
        "tasks.path: expected a path whose variables are set, got '$SCRATCH/photos', where SCRATCH is not set. "
        "Set it, as in export NAME=VALUE, or write the path out."
    )


@pytest.mark.parametrize("name", ["$x", "a$", "100$ (new)", "$(pwd)"])
def test_path_that_is_there_is_taken_as_it_is_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert user_path(name, "tasks.path") == Path(name)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_path_is_not_taken_for_the_current_folder(text):
    with pytest.raises(DataError, match=r"^tasks\.path: expected a path, got"):
        user_path(text, "tasks.path")
    assert user_path(".", "tasks.path") == Path()


def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a file"):
        atomic_write(tmp_path / "pipe", b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
