"""A process that another one started ends with it: a pipe between them, on which nothing is sent, tells of its end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

# Exit code of a process that stops because another one is gone: it has nothing to add.
EXIT_LOST = 75

# How long a process may take to save its work and end, once its parent or another worker is gone.
PATIENCE_S = 15.0


def end_after(wait: Callable[[], object], clean_up: Callable[[], object] = lambda: None) -> None:
    """Tell this process to stop, as SIGTERM does, once a function returns or raises; kill it if it does not stop.

    Args:
        wait: waits for the end of the parent, in a thread of its own.
        clean_up: called then, before this process is told.
    """

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            wait()
        clean_up()
        os.kill(os.getpid(), signal.SIGTERM)  # saves the run where it can be saved
        time.sleep(PATIENCE_S)
        os._exit(EXIT_LOST)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()
