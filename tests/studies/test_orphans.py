"""A study waits for the processes of an earlier call that was killed."""

from __future__ import annotations

import threading
import time

from mamlcli.runs.lock import held_lock
from mamlcli.studies.orphans import wait_for_orphans


def hold(folder, held, seconds):
    with held_lock(folder):
        held.set()
        time.sleep(seconds)


def waited_s(folder, *, held_s, most_s):
    """Return how long it waits for a run that another thread holds for a while, and one that nobody has begun."""
    folder.mkdir()
    held = threading.Event()
    thread = threading.Thread(target=hold, args=(folder, held, held_s))
    thread.start()
    held.wait()
    began = time.monotonic()
    wait_for_orphans([folder.parent / "missing", folder], most_s=most_s)
    waited = time.monotonic() - began
    is_over = not thread.is_alive()
    thread.join()
    return waited, is_over


def test_run_that_is_at_work_is_waited_for(tmp_path):
    waited, _ = waited_s(tmp_path / "run", held_s=0.5, most_s=60)
    assert 0.2 < waited < 50


def test_run_that_stays_at_work_is_waited_for_no_longer_than_said(tmp_path):
    _, is_over = waited_s(tmp_path / "run", held_s=5, most_s=0.3)
    assert not is_over
