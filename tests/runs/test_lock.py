"""The lock of a run: one process works on it, however that process ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mamlcli.common.errors import RunError
from mamlcli.runs.lock import held_lock, is_lock_held


@pytest.fixture
def run(tmp_path):
    """The folder of a run; the lock asks for no more."""
    return tmp_path


HOLD = """
import sys
from pathlib import Path
from mamlcli.runs.lock import held_lock
with held_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_run_that_another_process_holds_is_refused_until_that_process_is_gone(run):
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="no other process works on, got one in use"), held_lock(run):
            pass
        other.kill()  # however it ends, the lock goes with it
    with held_lock(run):
        assert (run / "lock").is_file()


FLOCK = """
import fcntl, sys
with open(sys.argv[1], "w") as stream:
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="earlier versions locked nothing on Windows")
def test_run_that_an_earlier_version_works_on_is_held(run):
    command = [sys.executable, "-c", FLOCK, str(run / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert is_lock_held(run) is True
        with pytest.raises(RunError, match="one in use"), held_lock(run):
            pass
        other.kill()
    assert is_lock_held(run) is False


def test_asking_whether_a_run_is_held_neither_takes_nor_frees_it(run):
    assert is_lock_held(run) is False
    assert not (run / "lock").exists()
    with held_lock(run):
        assert is_lock_held(run) is True
        assert is_lock_held(run) is True
    assert (run / "lock").is_file()
    assert is_lock_held(run) is False
    with held_lock(run):
        assert is_lock_held(run) is True


def test_run_whose_lock_may_not_be_opened_is_not_said_to_be_free(run, monkeypatch):
    (run / "lock").touch()

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", denied)
    if sys.platform != "win32":
        monkeypatch.setattr("fcntl.flock", denied)
    assert is_lock_held(run) is None
    with pytest.raises(RunError, match="expected a file that can be locked, got Permission denied"), held_lock(run):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="locks by another call")
def test_whoever_may_only_read_a_run_learns_whether_it_is_held(tmp_path):
    with held_lock(tmp_path):
        (tmp_path / "lock").chmod(0o444)
        assert is_lock_held(tmp_path) is True
    assert is_lock_held(tmp_path) is False
