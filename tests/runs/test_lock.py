"""The lock of a run: one process works on it, however that process ends."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys

import pytest

from mamlcli.common.errors import RunError, TakenError
from mamlcli.runs.lock import held_lock, is_lock_held, taken_error
from tests.helpers.processes import wait_for


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
        expected = rf"no other process works on, got one in use by process {other.pid} since 20.*: kill {other.pid}\."
        with pytest.raises(TakenError, match=expected), held_lock(run):
            pass
        other.kill()  # however it ends, the lock goes with it
    with held_lock(run):
        assert (run / "lock").is_file()
    assert (run / "lock").read_bytes() == b""  # nobody's name and host stay in a run that is handed on


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


@pytest.mark.skipif(sys.platform == "win32", reason="locks by another call")
def test_run_whose_lock_may_not_be_opened_is_not_said_to_be_free(run, monkeypatch):
    (run / "lock").touch()

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

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


# What a stranger, a dead process or a file system may have put there ------------------------------------------------

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="locks by another call")


@posix_only
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_lock_that_is_no_file_is_neither_followed_nor_waited_for(run, tmp_path, kind):
    target = tmp_path / "thesis.txt"
    target.write_text("mine")
    {
        "link": lambda: (run / "lock").symlink_to(target),
        "dangling link": lambda: (run / "lock").symlink_to(tmp_path / "nothing"),
        "pipe": lambda: os.mkfifo(run / "lock"),
        "folder": (run / "lock").mkdir,
    }[kind]()
    expected = r"lock: expected a file that can be locked, got (a link|something|Is a)"
    with pytest.raises(RunError, match=expected), held_lock(run):
        pass
    assert is_lock_held(run) in (None, False)
    assert target.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


@posix_only
def test_lock_that_is_another_name_of_a_file_of_the_user_leaves_it_as_it_is(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    os.link(tmp_path / "thesis.txt", run / "lock")
    with held_lock(run):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@posix_only
@pytest.mark.parametrize("content", ["", "x", "[]", '{"pid": "x"}', '{"pid": 1e999}', '{"pid": 1}', "\x00" * 4096])
def test_lock_of_a_dead_process_is_no_obstacle_whatever_is_in_it(run, content):
    (run / "lock").write_text(content)
    with held_lock(run):
        assert json.loads((run / "lock").read_text())["pid"] == os.getpid()


@posix_only
@pytest.mark.parametrize("pid", ["1e999", "-1", "[]", "9" * 400])
def test_a_lock_whose_holder_cannot_be_a_process_names_none(run, pid):
    with held_lock(run):
        (run / "lock").write_text(f'{{"pid": {pid}, "host": "{platform.node()}", "since": "x"}}')
        assert "got one in use." in str(taken_error(run))


@posix_only
def test_who_holds_a_run_is_said_only_while_that_may_be_true(run):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with held_lock(run):
        holder = json.loads((run / "lock").read_text())
        (run / "lock").write_text(json.dumps({**holder, "pid": process.pid}))
        assert "got one in use. Wait" in str(taken_error(run))
        (run / "lock").write_text(json.dumps({**holder, "host": "node\x1b[31m7"}))
        assert f"by process {os.getpid()} on node\\x1b[31m7 since 20" in str(taken_error(run))


@posix_only
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_runs_go_on_where_the_file_system_has_no_locks_and_that_is_known(run, monkeypatch, number):
    def missing(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", missing)
    with held_lock(run):
        assert is_lock_held(run) is None


@posix_only
def test_full_disk_does_not_keep_a_run_from_being_locked(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with held_lock(run):
        assert is_lock_held(run) is True


FORK = """
import os, sys, time
from pathlib import Path
from mamlcli.runs.lock import held_lock
with held_lock(Path(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(60)
    print("held", flush=True)
    sys.stdin.read()
"""


@posix_only
def test_lock_does_not_outlive_its_process_in_one_that_it_forked(run):
    command = [sys.executable, "-c", FORK, str(run)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        other.kill()
        other.wait()
        wait_for(lambda: is_lock_held(run) is False)  # the fork may not have run since it was made
        os.killpg(other.pid, 9)


@posix_only
def test_lock_of_a_folder_that_was_made_again_meanwhile_is_not_taken_for_the_new_one(run, monkeypatch):
    import fcntl

    flock, num_calls = fcntl.flock, 0

    def replaced(handle, operation):
        nonlocal num_calls
        num_calls += 1
        if num_calls == 1:
            (run / "lock").unlink()
        flock(handle, operation)

    monkeypatch.setattr("fcntl.flock", replaced)
    with held_lock(run):
        monkeypatch.undo()
        assert is_lock_held(run) is True
