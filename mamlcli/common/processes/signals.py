"""SIGTERM and Ctrl-C become flags here, so that a process that is asked to stop can save its work first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruption_flag(*, second_ends: bool = True) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT or SIGTERM came; a second one ends the process at once.

    Args:
        second_ends: whether a second one does; not in the process of a job, which may get one interruption twice.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received and second_ends:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(received)
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def sigint_ignored() -> Iterator[None]:
    """Ignore SIGINT while a process is started that is to ignore it: ^C reaches all, and the parent alone decides."""
    if threading.current_thread() is not threading.main_thread():
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
    names = (signal.SIGINT, signal.SIGTERM)
    previous = {name: signal.signal(name, lambda number, frame: received.append(number)) for name in names}
    try:
        yield received
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
