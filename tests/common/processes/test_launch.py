"""The workers of one run: how they end when one of them does. They load no torch, so they are quick."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mamlcli
from mamlcli.common.errors import MamlError
from mamlcli.common.processes.launch import Ending, run_workers
from mamlcli.common.processes.lifeline import EXIT_LOST
from tests.helpers.processes import is_alive, wait_for

# A worker that waits for its end; the others of its script do what is tested.
PREAMBLE = """
import os, signal, sys, time
from pathlib import Path
from mamlcli.common.processes.launch import end_with_parent
from mamlcli.common.processes.place import place_in
place = place_in(os.environ)
rank = place.rank
"""


def run_script(script, num_workers=2):
    return run_workers(num_workers, [sys.executable, "-c", PREAMBLE + script])


def test_workers_that_are_done_end_well(tmp_path):
    script = f"Path({str(tmp_path)!r}, str(rank)).write_text(f'{{place.num_workers}} {{place.local_rank}}')"
    assert run_script(script, num_workers=3) == Ending(0)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "3 0", "1": "3 1", "2": "3 2"}


def test_killed_worker_is_named_whatever_the_others_say():
    script = "os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else sys.exit(1)"
    cause = "SIGKILL, most often by the system for lack of memory"
    problem = f"worker 1: expected it to work to the end of the run, got killed ({cause})."
    assert run_script(script) == Ending(1, (problem,))


def test_last_words_of_a_failed_worker_are_shown():
    script = f"sys.stderr.write('error: a bug\\n') if rank == 1 else None; sys.exit(3 if rank else {EXIT_LOST})"
    assert run_script(script) == Ending(3, ("worker 1: a bug",))


def test_failed_worker_without_words_is_named():
    problem = "worker 1: expected it to work to the end of the run, got exit code 1 without a word."
    assert run_script("sys.exit(rank)") == Ending(1, (problem,))


def test_worker_0_speaks_for_itself_and_lost_workers_do_not():
    assert run_script(f"sys.exit({EXIT_LOST} if rank else 3)") == Ending(3)


def test_worker_that_does_not_end_with_the_others_is_killed(monkeypatch):
    monkeypatch.setattr("mamlcli.common.processes.launch.PATIENCE_S", 0.0)
    assert run_script("time.sleep(600 if rank else 0)") == Ending(0)
    ending = run_script("sys.exit(1) if rank else time.sleep(600)")
    assert ending.problems[0].startswith("worker 1: ")


def test_worker_that_cannot_be_started_is_named(monkeypatch):
    def fail(*args, **options):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(MamlError, match=r"--workers: expected 2 processes that can be started, got .*unavailable"):
        run_script("")


@pytest.fixture
def parent(tmp_path):
    """Start a parent of two workers; each writes its process id to a file once it can be told to stop."""
    scripts = []

    def start(at_stop):
        script = f"""
signal.signal(signal.SIGTERM, lambda *_: {at_stop})
end_with_parent(os.environ)
Path({str(tmp_path)!r}, f'new-{{rank}}').write_text(str(os.getpid()))
Path({str(tmp_path)!r}, f'new-{{rank}}').rename(Path({str(tmp_path)!r}, f'worker-{{rank}}'))
while True: time.sleep(0.01)
"""
        code = (
            "import sys\nfrom mamlcli.common.processes.launch import run_workers\n"
            f"sys.exit(run_workers(2, [sys.executable, '-c', {PREAMBLE + script!r}]).code)"
        )
        environment = os.environ | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1]), "TMPDIR": str(tmp_path)}
        scripts.append(subprocess.Popen([sys.executable, "-c", code], env=environment))
        wait_for(lambda: len(list(tmp_path.glob("worker-*"))) == 2)
        return scripts[0], [int(path.read_text()) for path in sorted(tmp_path.glob("worker-*"))]

    yield start
    for process in scripts:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_parent_reaches_all_workers(parent, number):
    process, workers = parent("sys.exit(130)")
    process.send_signal(number)
    assert process.wait(60) == 130
    assert not any(map(is_alive, workers))


def test_second_signal_kills_workers_that_do_not_stop(parent):
    process, workers = parent("None")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)  # of signals that come at once, Python handles the one of the lower number first
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert not any(map(is_alive, workers))


def test_no_worker_outlives_a_parent_that_is_killed(parent, tmp_path):
    process, workers = parent("sys.exit(130)")
    process.kill()
    wait_for(lambda: not any(map(is_alive, workers)))
    assert not list(tmp_path.glob("mamlcli-*"))
