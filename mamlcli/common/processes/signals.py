"""Signals that ask a process to stop become flags here, so that it can save its work first.

SIGINT is Ctrl-C; SIGTERM is `kill`, or the end of a batch job; SIGHUP is a terminal that was closed or a connection
that was lost; SIGUSR1, SIGUSR2 and SIGXCPU are warnings of batch systems before they kill. One that was ignored when
the process began, as nohup has it for SIGHUP, stays ignored.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], object]


def _there(*names: str) -> tuple[signal.Signals, ...]:
    return tuple(signal.Signals[name] for name in names if hasattr(signal, name))  # Windows has two of them


ASKED = _there("SIGINT", "SIGTERM")
WARNED = _there("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")

# They reach every process of a terminal or of a batch job. Those that a parent started leave them to it.
_REACH_ALL = _there("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")

# A person takes longer than this from one Ctrl-C to the next; `timeout -s INT` sends two at once.
_INSISTS_S = 0.1


@contextmanager
def interruption_flag(*, second_ends: bool = True) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a signal came that asks to stop; a Ctrl-C after it ends the process at once.

    Other signals may come twice, or one after the other, and none of them ends the process: a shell and the system
    both tell of a closed terminal, `timeout` sends SIGTERM twice, batch systems warn and then ask.

    Args:
        second_ends: whether a Ctrl-C after it does; not in the process of a job, which may get one interruption twice.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received = _Received()

    def handle(number: int, frame: FrameType | None) -> None:
        if received.insists(number) and second_ends:
            raise KeyboardInterrupt

    with _handled_by(handle):
        yield lambda: received.first is not None


@contextmanager
def signals_handled() -> Iterator[list[int]]:
    """Yield a list that gets the first signal that asks to stop, and a Ctrl-C after it; none ends the process."""
    received, told = _Received(), list[int]()

    def handle(number: int, frame: FrameType | None) -> None:
        if received.insists(number) or not told:
            told.append(number)

    with _handled_by(handle):
        yield told


class _Received:
    """Remembers which signal came first, and when Ctrl-C came last."""

    def __init__(self) -> None:
        self.first: int | None = None
        self._ctrl_c_s = -math.inf

    def insists(self, number: int) -> bool:
        """Note a signal; return whether it is a Ctrl-C after an earlier signal."""
        if number != signal.SIGINT:
            self.first = self.first or number
            return False
        is_another = time.monotonic() - self._ctrl_c_s > _INSISTS_S
        self._ctrl_c_s = time.monotonic()
        if self.first is not None:
            return is_another
        self.first = number
        return False


@contextmanager
def _handled_by(handle: Handler) -> Iterator[None]:
    """Handle the signals that ask to stop, then leave them to whoever did before.

    Not one that is ignored, or that other code than Python handles; nor a warning that is handled otherwise than
    SIGTERM: whoever calls mamlcli has a use of it.
    """
    own = (signal.SIG_DFL, signal.getsignal(signal.SIGTERM))
    numbers = [number for number in (*ASKED, *WARNED) if _is_heard(number)]
    numbers = [number for number in numbers if number in ASKED or signal.getsignal(number) in own]
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _is_heard(number: signal.Signals) -> bool:
    """Return whether a signal is neither ignored nor handled by other code than Python."""
    return signal.getsignal(number) not in (None, signal.SIG_IGN)


def handle_all(handle: Handler) -> None:
    """Let a function handle the signals that ask to stop for the rest of the process, but those that it ignores."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the parent had it ignored
        signal.signal(signal.SIGINT, handle)
    for number in (signal.SIGTERM, *WARNED):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, handle)


@contextmanager
def left_to_parent() -> Iterator[None]:
    """Ignore what reaches all processes of a terminal or job while one is started: the parent alone decides."""
    # One that was set by other code than Python is None here, and could not be set again.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {
        number: signal.signal(number, signal.SIG_IGN) for number in _REACH_ALL if signal.getsignal(number) is not None
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def ctrl_c_unchanged() -> Iterator[None]:
    """Leave SIGINT to whoever handles it now, also where other code, a package that is imported, takes it over."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
