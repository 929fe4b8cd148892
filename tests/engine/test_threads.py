"""Threads that compute on one core each, and what they do with denormals and memory."""

import ctypes
import os
import platform
import subprocess
import sys
import threading

import pytest
import torch

from mamlcli.engine.threads import are_denormals_flushed, give_back_large_blocks, keep_large_blocks, thread_pool


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


@pytest.mark.parametrize("setting", [give_back_large_blocks, keep_large_blocks])
def test_c_library_without_the_setting_says_so(monkeypatch, setting):
    def no_library(name):
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert setting() is False


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_that_are_kept_are_not_got_anew():
    """Of a block of 16 MB, the pages are got once, or each time."""
    program = """
import resource, sys, torch
from mamlcli.engine import threads
getattr(threads, sys.argv[1])()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # until the heap is as large as it gets
    torch.zeros(2**22)
before = faults()
for _ in range(5):
    torch.zeros(2**22)
print(faults() - before)
"""

    def faults(setting):
        words = [sys.executable, "-c", program, setting]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    assert faults("keep_large_blocks") < 100 < faults("give_back_large_blocks")


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
