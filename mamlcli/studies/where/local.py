"""`--on local` and `--on gpus[:N]`: processes of this machine, one on each GPU or on some cores."""

from __future__ import annotations

from mamlcli.common.machine import threads_of
from mamlcli.common.processes.pool import LocalExecutor


def local_executor(num_processes: int) -> LocalExecutor:
    """Return processes of this machine that share its cores."""
    return LocalExecutor(num_processes, num_threads=threads_of(num_processes))
