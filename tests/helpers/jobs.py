"""Jobs for processes that are to load no torch and no Dask."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from mamlcli.common.errors import DataError, Interrupted


def look(payload, is_stopped):
    """Say where a job runs."""
    return {"pid": os.getpid(), "parent": os.getppid(), "folder": os.getcwd(), "data": os.environ["MAMLCLI_DATA"]}


def die_once(payload, is_stopped):
    """Kill the worker, the parent of this process, at the first attempt."""
    file = Path(payload)
    if not file.exists():
        file.write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return file.read_text()


def end_itself(payload, is_stopped):
    """End the process of the job, as the system does for lack of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def count_and_fail(payload, is_stopped):
    with Path(payload).open("a") as stream:
        stream.write("x")
    raise DataError("x.npz", expected="a pack", got="none")


def wait_for_word(payload, is_stopped):
    """Work until told to stop, and note that it was."""
    Path(payload).with_suffix(".begun").write_text(str(os.getpid()))
    while not is_stopped():
        time.sleep(0.05)
    Path(payload).write_text("stopped")
    raise Interrupted("interrupted")


def visible_gpu(payload, is_stopped):
    """Return the GPUs and the id of this process, once two jobs have begun."""
    Path(payload).touch()
    while len(list(Path(payload).parent.iterdir())) < 2:
        time.sleep(0.02)
    return os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()
