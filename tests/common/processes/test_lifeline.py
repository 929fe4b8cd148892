"""A process ends with what it waits for. They load no torch, so they are quick."""

from __future__ import annotations

import signal
import subprocess

from mamlcli.common.processes.fresh import fresh_python
from mamlcli.common.processes.lifeline import EXIT_LOST

IMPORTS = "import signal, time\nfrom pathlib import Path\nfrom mamlcli.common.processes import lifeline\n"


def end_of(code):
    return subprocess.run(fresh_python(IMPORTS + code), timeout=120, check=False).returncode


def test_process_is_told_to_stop_after_it_has_cleaned_up(tmp_path):
    code = f"lifeline.end_after(lambda: None, Path({str(tmp_path / 'a')!r}).mkdir)\ntime.sleep(600)"
    assert end_of(code) == -signal.SIGTERM
    assert (tmp_path / "a").is_dir()


def test_end_of_a_pipe_that_is_an_error_counts():
    code = "def wait(): raise EOFError\nlifeline.end_after(wait)\ntime.sleep(600)"
    assert end_of(code) == -signal.SIGTERM


def test_process_that_does_not_stop_is_ended():
    code = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nlifeline.PATIENCE_S = 0.1\n"
        "lifeline.end_after(lambda: None)\ntime.sleep(600)"
    )
    assert end_of(code) == EXIT_LOST
