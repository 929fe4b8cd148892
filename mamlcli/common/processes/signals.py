"""SIGTERM and Ctrl-C become flags here, so that a process that is asked to stop can save its work first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], object]


@contextmanager
def interruption_flag(*, second_ends: bool = True) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT or SIGTERM came; a second one ends the process at once.

    Args:
        second_ends: whether a second one does; not in the process of a job, which may get one interruption twice.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received and second_ends:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(received)
        return
    with _handled_by(handle):
        yield lambda: bool(received)


@contextmanager
def _handled_by(handle: Handler) -> Iterator[None]:
    """Handle SIGINT and SIGTERM, then leave them to whoever did before; not one that other code than Python handles."""
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not None]
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def sigint_ignored() -> Iterator[None]:
    """Ignore SIGINT while a process is started that is to ignore it: ^C reaches all, and the parent alone decides."""
    # One that was set by other code than Python is None here, and could not be set again.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def signals_handled() -> Iterator[list[int]]:
    """Yield a list that gets every SIGINT and SIGTERM, and let none of them end the process."""
    received: list[int] = []
    with _handled_by(lambda number, frame: received.append(number)):
        yield received
