"""Waiting for other workers hears signals; the others are threads and fakes here, real ones are in `test_sharing`."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from mamlcli.common.errors import Interrupted
from mamlcli.engine import waiting
from mamlcli.engine.waiting import Waiting


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "_LOOK_S", 0.01)
    monkeypatch.setattr(waiting, "STOP_S", 0.05)


@pytest.fixture
def never():
    """A function that ends with the test."""
    over = threading.Event()
    yield lambda: over.wait(60)
    over.set()


class Work:
    """An exchange that ends after some looks, with an error or without; torch's raises where it has not ended."""

    def __init__(self, num_looks, error=None):
        self.num_looks, self.error = num_looks, error

    def is_completed(self):
        return self.num_looks <= 0

    def wait(self, timeout=None):
        if self.num_looks > 0:
            assert timeout is not None, "would wait without end"
            self.num_looks -= 1
            raise RuntimeError("Operation timed out!")
        if self.error:
            raise self.error


def test_call_returns_when_the_function_does_and_raises_what_it_raises():
    found = []
    Waiting(is_asked=lambda: True).call(lambda: found.append(1))
    assert found == [1]
    with pytest.raises(ValueError, match="no such address"):
        Waiting().call(lambda: (_ for _ in ()).throw(ValueError("no such address")))


def test_worker_that_was_told_to_stop_gives_the_others_a_while(never):
    given_up = Waiting(is_asked=lambda: True)
    with pytest.raises(Interrupted, match="interrupted while waiting for the other workers"):
        given_up.call(never)
    assert given_up.is_given_up
    patient = Waiting(is_asked=lambda: True)
    patient.call(lambda: time.sleep(0.02))
    assert not patient.is_given_up


def test_signal_is_heard_while_the_function_waits(never):
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began, given_up = time.monotonic(), Waiting()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            given_up.call(never)
    finally:
        signal.signal(signal.SIGINT, before)
    assert given_up.is_given_up
    assert time.monotonic() - began < 30


def test_call_with_a_limit_is_given_up_without_an_error(never):
    bounded = Waiting()
    bounded.call(never, most_s=0.05)
    assert bounded.is_given_up


@pytest.mark.parametrize("on_gpus", [False, True])
def test_exchange_is_waited_for_to_its_end(on_gpus):
    work = Work(0 if on_gpus else 3)
    patient = Waiting()
    patient.finish(work, on_gpus=on_gpus)
    assert (work.num_looks, patient.is_given_up) == (0, False)


def test_error_of_an_exchange_is_raised():
    with pytest.raises(RuntimeError, match="closed by peer"):
        Waiting().finish(Work(2, RuntimeError("Connection closed by peer")), on_gpus=False)


@pytest.mark.parametrize("on_gpus", [False, True])
def test_exchange_without_end_is_left_by_a_worker_that_was_told_to_stop(on_gpus):
    given_up = Waiting(is_asked=lambda: True)
    with pytest.raises(Interrupted):
        given_up.finish(Work(10**9), on_gpus=on_gpus)
    assert given_up.is_given_up
