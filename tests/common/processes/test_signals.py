"""Signals as flags: a first one is remembered, a second Ctrl-C ends, and handlers are as they were afterwards."""

from __future__ import annotations

import signal
import threading

import pytest

from mamlcli.common.processes.signals import (
    ctrl_c_unchanged,
    handle_all,
    interruption_flag,
    left_to_parent,
    signals_handled,
)

NUMBERS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
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


@pytest.fixture
def clock(monkeypatch):
    """Let the test say what time it is."""
    seconds = [0.0]
    monkeypatch.setattr("mamlcli.common.processes.signals.time.monotonic", lambda: seconds[0])
    return seconds


@EITHER
def test_ctrl_c_after_a_signal_ends_at_once(number, clock):
    with interruption_flag():
        signal.raise_signal(number)
        clock[0] = 0.5
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("first", NUMBERS)
@pytest.mark.parametrize("second", NUMBERS[1:])
def test_no_other_pair_of_signals_ends_at_once(first, second, clock):
    # A batch system warns, then asks; `timeout` asks twice; a shell and the system both tell of a closed terminal.
    with interruption_flag() as is_interrupted:
        signal.raise_signal(first)
        clock[0] = 0.5
        signal.raise_signal(second)
        assert is_interrupted()


def test_two_sigints_at_once_are_one_interruption(clock):
    with interruption_flag() as is_interrupted:  # `timeout -s INT` sends two
        signal.raise_signal(signal.SIGINT)
        clock[0] = 0.001
        signal.raise_signal(signal.SIGINT)
        assert is_interrupted()


def test_second_ctrl_c_is_nothing_new_where_one_interruption_may_be_heard_twice(clock):
    with interruption_flag(second_ends=False) as is_interrupted:
        signal.raise_signal(signal.SIGINT)
        clock[0] = 0.5
        signal.raise_signal(signal.SIGINT)
        assert is_interrupted()


@EITHER
def test_signal_that_is_ignored_stays_ignored(number):  # as nohup has it for SIGHUP
    previous = signal.signal(number, signal.SIG_IGN)
    try:
        with interruption_flag() as is_interrupted, signals_handled() as received:
            signal.raise_signal(number)
            assert not is_interrupted()
        assert received == []
    finally:
        signal.signal(number, previous)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1")
def test_warning_that_the_caller_handles_is_left_to_it():
    told = []
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))
    try:
        with interruption_flag() as is_interrupted:
            signal.raise_signal(signal.SIGUSR1)
            assert not is_interrupted()
        assert told == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_function_for_all_signals_gets_each_that_nobody_had():
    before, told = [signal.getsignal(number) for number in NUMBERS], []
    try:
        for number in NUMBERS:
            signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
        handle_all(lambda number, frame: told.append(number))
        with interruption_flag() as is_interrupted:  # flags take over from it, for a while
            signal.raise_signal(NUMBERS[-1])
            assert is_interrupted()
        for number in NUMBERS:
            signal.raise_signal(number)
        assert told == list(NUMBERS)
    finally:
        for number, handler in zip(NUMBERS, before, strict=True):
            signal.signal(number, handler)


def test_what_reaches_all_processes_is_ignored_while_one_is_started():
    with left_to_parent():
        for number in set(NUMBERS) - {signal.SIGTERM, getattr(signal, "SIGXCPU", None)}:
            signal.raise_signal(number)
            assert signal.getsignal(number) is signal.SIG_IGN


def test_first_signal_is_collected_and_a_ctrl_c_after_it():
    with signals_handled() as received:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGTERM, signal.SIGINT]


def test_threads_that_may_not_handle_signals_go_on_without():
    ends = []

    def work():
        with interruption_flag() as is_interrupted, left_to_parent():
            ends.append(is_interrupted())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ends == [False]


def test_signal_that_other_code_than_python_handles_is_left_to_it(monkeypatch):
    getsignal, changed = signal.getsignal, []
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGINT else getsignal(number))
    monkeypatch.setattr(signal, "signal", lambda number, handler: changed.append(number))
    with interruption_flag(), left_to_parent(), signals_handled():
        assert set(changed) == set(NUMBERS) - {signal.SIGINT}
    monkeypatch.undo()


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_a_package_that_takes_ctrl_c_over_has_it_no_longer_after_its_import(before):
    at_first = signal.signal(signal.SIGINT, before)
    try:
        with ctrl_c_unchanged():
            signal.signal(signal.SIGINT, lambda *_: None)
        assert signal.getsignal(signal.SIGINT) == before
    finally:
        signal.signal(signal.SIGINT, at_first)
