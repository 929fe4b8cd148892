"""Temporary files and folders of killed processes are taken away, those of living ones are not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from mamlcli.common.files import atomic_write
from mamlcli.common.leftovers import is_partial_name, open_partial, remove_leftovers, scratch_folder

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="locks by another call")


def left_over(path, *, age_s=0.0):
    """Make a file or a folder that no process holds."""
    path.mkdir() if path.name.startswith(".import") else path.write_bytes(b"x")
    before = time.time() - age_s
    os.utime(path, (before, before))
    return path


def test_partial_names_are_told_from_others(tmp_path):
    with open_partial(tmp_path / "a.json") as stream:
        assert is_partial_name(os.path.basename(stream.name))
    assert is_partial_name(".last.safetensors.ab_12x9z.partial")  # of earlier versions
    for name in ("a.json", ".a.json", ".a.partial", "a.0123abcd.partial", "notes.partial"):
        assert not is_partial_name(name)


WRITE = """
import sys
from pathlib import Path
from mamlcli.common.files import whole_file
with whole_file(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    print("writing", flush=True)
    sys.stdin.read()
    stream.write(b" and half")
"""


@posix_only
def test_file_of_a_living_process_stays_and_that_of_a_killed_one_goes(tmp_path):
    command = [sys.executable, "-c", WRITE, str(tmp_path / "a")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as living, subprocess.Popen(command, **pipes) as killed:
        assert (living.stdout.readline(), killed.stdout.readline()) == ("writing\n", "writing\n")
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 2
        remove_leftovers(tmp_path, min_age_s=0)
        assert len(list(tmp_path.iterdir())) == 1
        living.communicate()
    assert living.returncode == 0
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"half and half")]


@posix_only
def test_writing_a_file_takes_away_what_killed_writes_of_it_left_some_minutes_ago(tmp_path):
    old = left_over(tmp_path / ".a.json.0123abcd.partial", age_s=3600)
    stay = [
        left_over(tmp_path / ".a.json.0123abce.partial"),  # an earlier version, which holds nothing, may be at work
        left_over(tmp_path / ".b.json.0123abcd.partial", age_s=3600),  # of another file
        left_over(tmp_path / ".a.json.swp", age_s=3600),  # not ours
    ]
    atomic_write(tmp_path / "a.json", b"new")
    assert not old.exists()
    assert all(path.exists() for path in stay)


@posix_only
def test_link_that_looks_like_a_leftover_is_not_followed(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / ".a.0123abcd.partial").symlink_to(tmp_path / "thesis.txt")
    remove_leftovers(tmp_path, min_age_s=0)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_where_there_are_no_locks_age_tells(tmp_path, monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    if sys.platform != "win32":
        monkeypatch.setattr("fcntl.flock", missing)
    recent = left_over(tmp_path / ".a.0123abcd.partial", age_s=3600)
    old = left_over(tmp_path / ".a.0123abce.partial", age_s=2 * 86400)
    remove_leftovers(tmp_path, min_age_s=0)
    assert (recent.exists(), old.exists()) == (True, False)
    atomic_write(tmp_path / "a", b"new")  # writing needs none
    assert (tmp_path / "a").read_bytes() == b"new"


@posix_only
def test_name_of_the_greatest_length_can_be_written(tmp_path):
    for name in ("x" * 255, "ä" * 127):
        atomic_write(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"


@posix_only
def test_file_is_written_where_chmod_is_refused(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refused)
    monkeypatch.setattr(os, "fchmod", refused)
    atomic_write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@posix_only
def test_folders_that_killed_processes_left_a_day_ago_go_and_those_at_work_stay(tmp_path):
    old = left_over(tmp_path / ".import-old", age_s=2 * 86400)
    recent = left_over(tmp_path / ".import-recent", age_s=3600)
    with scratch_folder(tmp_path, ".import-") as at_work:
        assert (old.exists(), recent.exists()) == (False, True)
        before = time.time() - 2 * 86400
        os.utime(at_work, (before, before))
        with scratch_folder(tmp_path, ".import-") as other:
            assert at_work.is_dir()
            assert other != at_work
    assert list(tmp_path.iterdir()) == [recent]
