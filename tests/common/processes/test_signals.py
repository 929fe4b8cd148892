"""Signals as flags: a first one is remembered, a second one ends, and handlers are as they were afterwards."""

from __future__ import annotations

import signal
import threading

import pytest

from mamlcli.common.processes.signals import interruption_flag, sigint_ignored, signals_handled

NUMBERS = (signal.SIGINT, signal.SIGTERM)
EITHER = pytest.mark.parametrize("number", NUMBERS)


@pytest.fixture(autouse=True)
def handlers_are_restored():
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    assert [signal.getsignal(number) for number in NUMBERS] == before


@EITHER
def test_flag_is_raised_by_a_signal(number):
    with interruption_flag() as is_interrupted:
        assert not is_interrupted()
        signal.raise_signal(number)
        assert is_interrupted()


@EITHER
def test_second_signal_ends_at_once(number):
    with interruption_flag():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_second_signal_is_nothing_new_where_one_interruption_may_be_heard_twice():
    with interruption_flag(second_ends=False) as is_interrupted:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert is_interrupted()


def test_sigint_is_ignored_for_a_while():
    with sigint_ignored():
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_signals_are_collected_in_their_order():
    with signals_handled() as received:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGTERM, signal.SIGINT]


def test_threads_that_may_not_handle_signals_go_on_without():
    ends = []

    def work():
        with interruption_flag() as is_interrupted, sigint_ignored():
            ends.append(is_interrupted())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ends == [False]


def test_signal_that_other_code_than_python_handles_is_left_to_it(monkeypatch):
    getsignal, changed = signal.getsignal, []
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGINT else getsignal(number))
    monkeypatch.setattr(signal, "signal", lambda number, handler: changed.append(number))
    with interruption_flag(), sigint_ignored(), signals_handled():
        assert set(changed) == {signal.SIGTERM}
    monkeypatch.undo()
