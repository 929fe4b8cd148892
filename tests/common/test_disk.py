"""What the system refuses is told with its place and what to free; bugs stay bugs."""

from __future__ import annotations

import errno
import os

import pytest

from mamlcli.common.disk import environment_error, write_error
from mamlcli.common.errors import DataError, MamlError
from mamlcli.common.files import atomic_write


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "expected room on the disk, got no space left on device. Free some of the disk of"),
        (errno.EDQUOT, "expected room within your quota, got"),
        (errno.EFBIG, "A limit on the size of files is reached. Raise it, as in: ulimit -f unlimited"),
        (errno.EROFS, "expected a disk that can be written to, got read-only file system"),
        (errno.EACCES, "expected a file that you have the right to use, got permission denied"),
        (errno.EIO, "expected a disk that answers, got input/output error"),
        (errno.EMFILE, "ulimit -n 4096"),
        (errno.EEXIST, "expected a file that can be used, got file exists. See what is there: ls -la"),
    ],
)
def test_each_refusal_says_what_to_free_or_to_change(tmp_path, number, words):
    told = environment_error(OSError(number, os.strerror(number), str(tmp_path / "x.json")))
    assert str(told).startswith(f"{tmp_path}/x.json: expected ")
    assert words in str(told)


def test_full_disk_without_a_file_is_told(tmp_path):
    told = environment_error(OSError(errno.ENOSPC, "No space left on device"), next_step="Then run it again")
    assert str(told) == (
        "disk: expected room on the disk, got no space left on device. Free some of the disk of ., which df shows. "
        "Then run it again."
    )


def test_folder_that_vanished_is_told_from_a_file_that_is_not_there(tmp_path):
    gone = environment_error(FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "no" / "x")))
    assert f"Do not move or delete {tmp_path}/no while it is in use" in str(gone)
    there = environment_error(FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "x")))
    assert f"ls -la {tmp_path}" in str(there)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError("no number"), ValueError("x")], ids=repr
)
def test_what_is_not_of_the_environment_is_left_alone(error):
    assert environment_error(error) is None


def test_error_in_a_write_names_the_file_and_not_a_temporary_one(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        atomic_write(tmp_path / "a.json", b"x")
    assert caught.value.filename == str(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_is_to_be_named_anew_but_a_full_one_to_be_freed(tmp_path):
    def told(number):
        error = OSError(number, os.strerror(number))
        words = {"expected": "a folder that can be written", "next_step": "Name another --out"}
        return write_error(error, str(tmp_path), **words, kind=DataError)

    assert isinstance(told(errno.EACCES), DataError)
    assert str(told(errno.EACCES)).endswith("a folder that can be written, got permission denied. Name another --out.")
    assert "Free some of the disk of" in str(told(errno.ENOSPC))
    assert isinstance(told(errno.ENOSPC), MamlError)
