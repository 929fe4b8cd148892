"""How a process ends whose libraries have threads of their own.

Threads of torch.distributed may be at work when Python takes itself down, be it after their group was destroyed: then
the process aborts ("terminate called without an active exception") although all is done and saved. So a process that
has joined others ends without the last steps of Python and of C++; what is registered with `atexit` runs.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from dataclasses import dataclass


@dataclass
class Ending:
    """The end of this process.

    Attributes:
        code: with which it ends.
        is_at_once: whether it ends after what is registered with `atexit`, without the last steps of Python.
    """

    code: int = 0
    is_at_once: bool = False

    def prepare(self) -> None:
        """Be there at the end of this process. Called before libraries are loaded, it comes after what they do then."""
        atexit.register(self.end)

    def note(self, ended: SystemExit) -> None:
        """Note the exit code of a process that ends."""
        self.code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)

    def end(self) -> None:
        """End the process, if it is to end at once; what was printed is written before."""
        if not self.is_at_once:
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads it
                stream.flush()
        os._exit(self.code)


ENDING = Ending()
