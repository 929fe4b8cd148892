"""Threads that compute on one core each, and what they do with denormals and memory."""

import ctypes
import os
import threading

import pytest
import torch

from mamlcli.engine.threads import are_denormals_flushed, give_back_large_blocks, thread_pool


def test_threads_compute_on_one_core_each_and_leave_the_callers_number():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(thread_pool(3).map(lambda _: torch.get_num_threads(), range(3))) == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_pool_of_a_number_has_as_many_threads_and_is_made_once():
    pool, meeting = thread_pool(3), threading.Barrier(3, timeout=10)
    assert thread_pool(3) is pool
    # All three are inside a call at the same time, or the barrier breaks.
    assert sorted(pool.map(lambda _: meeting.wait(), range(3))) == [0, 1, 2]


def test_c_library_without_the_setting_gives_back_no_blocks(monkeypatch):
    def no_library(name):
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert give_back_large_blocks() is False


def test_threads_take_denormal_numbers_as_zero():
    tiny = torch.tensor([1e-20])
    found = list(thread_pool(2).map(lambda _: float((tiny * tiny)[0]), range(2)))
    assert found == [0.0, 0.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_process_that_is_forked_makes_threads_of_its_own():
    assert list(thread_pool(2).map(abs, [-1])) == [1]
    child = os.fork()
    if child == 0:
        os._exit(0 if thread_pool.cache_info().currsize == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert thread_pool.cache_info().currsize > 0


def test_denormals_are_asked_about_whatever_the_default_type_and_device():
    torch.set_default_dtype(torch.float64)
    try:
        torch.set_flush_denormal(True)
        assert are_denormals_flushed()
        torch.set_flush_denormal(False)
        with torch.device("meta"):
            assert not are_denormals_flushed()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_flush_denormal(False)
