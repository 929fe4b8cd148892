"""The pool: a job that fails or whose process dies costs no other job. They load no torch, so they are quick."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mamlcli.common.errors import DataError, Interrupted, MamlError
from mamlcli.common.processes.fresh import fresh_python
from mamlcli.common.processes.jobs import Job, failure
from mamlcli.common.processes.pool import LocalExecutor, run_jobs
from mamlcli.common.processes.signals import interruption_flag
from tests.helpers.processes import is_alive, wait_for
from tests.helpers.strange_folders import strange_folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Stand in a folder of the test's own: the processes of a pool find no module in the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))


def work(payload, is_stopped):
    if payload.get("error"):
        raise MemoryError("4 GiB")
    deadline = time.monotonic() + payload.get("wait_s", 0.0)
    while time.monotonic() < deadline:
        if is_stopped():
            raise Interrupted("stopped")
        time.sleep(0.02)
    return {"pid": os.getpid()}


def test_a_process_takes_job_after_job_and_a_failed_job_is_tried_in_a_new_one():
    pids = []
    jobs = [Job("a", work, {}), Job("bad", work, {"error": True}), Job("b", work, {})]
    outcomes = run_jobs(jobs, executor=LocalExecutor(1), on_start=lambda job, pid: pids.append((job.key, pid)))
    assert [outcomes[key].status for key in ("a", "bad", "b")] == ["done", "failed", "done"]
    assert outcomes["bad"].attempts == 2
    assert "out of memory (4 GiB)" in outcomes["bad"].reason
    of = dict(reversed(pids))
    assert of["a"] == of["bad"] != of["b"]


def test_a_job_that_fails_without_hope_is_tried_once_and_its_process_goes_on():
    pids = []
    jobs = [Job("bad", work, {"error": True}, hopeless=["MemoryError"]), Job("b", work, {})]
    outcomes = run_jobs(jobs, executor=LocalExecutor(1), on_start=lambda _, pid: pids.append(pid))
    assert (outcomes["bad"].status, outcomes["bad"].attempts, outcomes["b"].status) == ("failed", 1, "done")
    assert len(set(pids)) == 1


def end_own_process(payload, is_stopped):
    """Get SIGTERM as a training does: it stops in order, and says that it was interrupted."""
    with interruption_flag() as is_interrupted:
        os.kill(os.getpid(), signal.SIGTERM)
        if is_interrupted():
            raise Interrupted("interrupted")
    return {}


def test_a_job_whose_process_alone_gets_sigterm_is_tried_again_and_then_failed():
    outcomes = run_jobs([Job("a", end_own_process, {}), Job("b", work, {})], executor=LocalExecutor(1))
    assert (outcomes["a"].status, outcomes["a"].attempts) == ("failed", 2)
    assert "SIGTERM" in outcomes["a"].reason
    assert outcomes["b"].status == "done"


def test_an_interruption_stops_the_jobs_and_starts_no_more():
    started = []

    def start(job, pid):
        started.append(job.key)
        signal.raise_signal(signal.SIGINT)

    jobs = [Job("long", work, {"wait_s": 60.0}), Job("next", work, {})]
    began = time.monotonic()
    with pytest.raises(Interrupted):
        run_jobs(jobs, executor=LocalExecutor(1), on_start=start)
    assert started == ["long"]
    assert time.monotonic() - began < 30


def test_outcome_has_what_the_job_returned_and_how_long_it_took():
    [outcome] = run_jobs([Job("a", work, {"wait_s": 0.05})], executor=LocalExecutor(1)).values()
    assert outcome.value["pid"] != os.getpid()
    assert (outcome.key, outcome.status, outcome.attempts) == ("a", "done", 1)
    assert outcome.wall_s >= 0.05


def test_failure_of_a_users_mistake_is_its_message_and_of_a_bug_has_the_traceback():
    mistake = DataError("x.npz", expected="a pack", got="none")
    assert failure(mistake) == {"reason": "x.npz: expected a pack, got none.", "error": "DataError"}
    try:
        raise ZeroDivisionError("no such luck\nline 2")
    except ZeroDivisionError as error:
        fields = failure(error)
    assert (fields["reason"], fields["error"]) == ("ZeroDivisionError: no such luck", "ZeroDivisionError")
    assert fields["details"].startswith("Traceback")


def test_jobs_run_no_file_of_the_current_folder(tmp_path, monkeypatch):
    log = strange_folder(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    [outcome] = run_jobs([Job("a", work, {})], executor=LocalExecutor(1)).values()
    assert outcome.status == "done"
    assert not log.exists()


ORPHAN = """
from mamlcli.common.processes.jobs import Job
from mamlcli.common.processes.pool import LocalExecutor, run_jobs
from tests.common.processes.test_pool import wait_deaf
run_jobs([Job("a", wait_deaf, {path!r})], executor=LocalExecutor(1))
"""


def wait_deaf(path, is_stopped):
    """Be a job that never asks whether to stop, as one in its evaluation."""
    Path(path).with_suffix(".new").write_text(str(os.getpid()))
    Path(path).with_suffix(".new").rename(path)
    time.sleep(600)


def test_no_process_outlives_a_parent_that_is_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen(fresh_python(ORPHAN.format(path=str(tmp_path / "pid")))) as parent:
        wait_for((tmp_path / "pid").exists)
        parent.kill()
    child = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(child))


def test_second_ctrl_c_ends_jobs_that_do_not_stop(monkeypatch):
    def start(job, pid):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.2)  # a person takes longer, too
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(
            [Job("a", work, {"wait_s": 600.0}), Job("b", work, {"wait_s": 600.0})],
            executor=LocalExecutor(2),
            on_start=start,
        )
    assert time.monotonic() - began < 60


def test_process_that_cannot_be_started_is_named(monkeypatch):
    def fail(*args, **options):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(MamlError, match=r"processes: expected one more that can be started, got .*unavailable"):
        run_jobs([Job("a", work, {})], executor=LocalExecutor(1))


def test_start_method_of_the_users_processes_is_left_to_the_user():
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        for chosen in (None, "spawn"):
            multiprocessing.set_start_method(chosen, force=True)
            run_jobs([Job("a", work, {})], executor=LocalExecutor(1))
            assert multiprocessing.get_start_method(allow_none=True) == chosen
    finally:
        multiprocessing.set_start_method(before, force=True)
