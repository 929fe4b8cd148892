"""Entry point: hears signals before anything slow is imported, and imports nothing from the current folder.

`python -m mamlcli` puts the current folder before all others, and Python has imported a little from there before it
comes here. The command `mamlcli` does not, and neither does `python -P -m mamlcli` (Python 3.11 or newer).
"""

import os
import sys


def leave_out_current_folder() -> None:
    """Take away the entry of sys.path that `python -m` has put first; those of PYTHONPATH stay."""
    is_safe = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    if not is_safe and sys.path and _is_current_folder(sys.path[0]):
        del sys.path[0]


def _is_current_folder(path: str) -> bool:
    try:
        return path in ("", os.getcwd())
    except OSError:  # it was removed; the command line says so
        return False


# Before anything else is imported, be it `__future__`: all but os and sys could be a file of the current folder.
if __name__ == "__main__":
    leave_out_current_folder()

import atexit  # noqa: E402
import signal  # noqa: E402
import time  # noqa: E402
from types import FrameType  # noqa: E402

from mamlcli.common.processes.ending import ENDING  # noqa: E402
from mamlcli.common.processes.signals import handle_all  # noqa: E402

EXIT_INTERRUPTED = 130

# `timeout` and a closing terminal send two signals at once; a person takes longer from one Ctrl-C to the next.
_INSISTS_S = 0.1


def main() -> None:
    """Run the command line; a signal ends it with one line and exit code 130, a second one at once."""
    interruption = _Interruption()
    interruption.listen()
    try:
        from mamlcli.cli.entry import run

        run()
    except KeyboardInterrupt:
        interruption.is_last = True
        _say_so()
        ENDING.code = EXIT_INTERRUPTED
        sys.exit(EXIT_INTERRUPTED)
    except SystemExit as ended:
        ENDING.note(ended)
        raise
    finally:
        interruption.is_last = True  # what is left is the end of Python itself, which would show an exception


class _Interruption:
    """Turns the first signal into KeyboardInterrupt where that can be raised.

    Attributes:
        is_last: whether the next signal ends the process without more ado.
    """

    def __init__(self) -> None:
        self.is_last = False
        self._first_s: float | None = None

    def listen(self) -> None:
        """Hear the signals that ask to stop from now on, but for those that the parent had ignored."""
        handle_all(self._hear)
        if signal.getsignal(signal.SIGINT) == self._hear:
            # Python gives a handled signal back to the system before torch's libraries end, and it would kill then.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        show = sys.unraisablehook

        def end_or_show(raised: "sys.UnraisableHookArgs") -> None:
            # KeyboardInterrupt in a finalizer, which Python would show and forget.
            if issubclass(raised.exc_type, KeyboardInterrupt):
                _end_at_once()
            show(raised)

        sys.unraisablehook = end_or_show

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.is_last or _is_importing(frame):
            _end_at_once()
        if self._first_s is None:
            self._first_s = now
            raise KeyboardInterrupt
        if now - self._first_s > _INSISTS_S:
            _end_at_once()


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported: an exception inside torch would end in a page of C++ frames."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_at_once() -> None:
    """End the process as interrupted; nothing that it still has open needs to be closed."""
    _say_so()
    os._exit(EXIT_INTERRUPTED)


def _say_so() -> None:
    try:  # contextlib would take time to load, before signals are heard
        os.write(2, b"interrupted\n")
    except OSError:  # nobody is there to read it
        return


if __name__ == "__main__":
    main()
