"""Make threads that share chunks of tasks; set how a process deals with denormal numbers and large blocks of memory."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier

import torch


@lru_cache(maxsize=4)
def thread_pool(number: int) -> ThreadPoolExecutor:
    """Return a pool of so many threads that compute on one core each; they live as long as the process."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(number, thread_name_prefix="chunk", initializer=_one_core_each)
    # All of them start now, on the initializer; what it sets for new threads is taken back after.
    started = Barrier(number)
    list(pool.map(lambda _: started.wait(), range(number)))
    torch.set_num_threads(before)
    return pool


# A process that is forked has the pools of its parent, but not their threads: they would be waited for without end.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=thread_pool.cache_clear)


def _one_core_each() -> None:
    torch.set_num_threads(1)
    # Torch takes the number into a thread when the thread first asks for it, which must be before it is taken back.
    torch.get_num_threads()
    flush_denormals()


def flush_denormals() -> None:
    """Let this thread take numbers below 1e-38 (float32; 1e-308 in float64) as zero.

    A support set that is learned by heart leaves probabilities of 1e-40, and a processor takes a hundred times longer
    over each of these than over any other number: adapting became four times slower where that happened.
    """
    torch.set_flush_denormal(True)


def can_renew_operation_threads() -> bool:
    """Return whether OpenMP is there and knows how: from its version 5.0 on, and so with torch 2.6 not everywhere."""
    try:
        return hasattr(ctypes.CDLL(None), "omp_pause_resource_all")
    except (OSError, TypeError):
        return False


def renew_operation_threads() -> None:
    """End the threads that share one operation, so that the next operation starts new ones.

    A thread deals with denormal numbers as the one that started it did then, and can be told otherwise by nobody else.
    Does nothing where it cannot.
    """
    if can_renew_operation_threads():
        ctypes.CDLL(None).omp_pause_resource_all(_OMP_PAUSE_SOFT)


_OMP_PAUSE_SOFT = 1  # in the OpenMP 5.0 specification, section 3.2.44


def are_denormals_flushed() -> bool:
    """Return whether this thread takes numbers below 1e-38 (float32) as zero."""
    return float(torch.tensor(1e-39, dtype=torch.float32, device="cpu") * 2.0) == 0.0


# Of mallopt in glibc: from the first size on, an allocation is a mapping of its own, given back when it is freed; with
# more than the second free at the end of the heap, that is given back.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_LARGE, _NEVER = 1_000_000, 2**30


def give_back_large_blocks() -> bool:
    """Let the C library give large freed blocks back to the system at once; return whether it can.

    Between the small tensors that an inner loop of constant memory keeps, every step makes and frees large ones, and
    glibc, left alone, ends with holes between them that take twice the memory of what is kept. Costs a little time.
    """
    return _set_thresholds(_LARGE)


def keep_large_blocks() -> bool:
    """Let the C library keep freed blocks for what comes next; return whether it can.

    Every meta-iteration makes and frees the same large tensors. Got anew from the system, each of their pages is filled
    with zeros first, which takes up to a tenth of the time of an iteration.
    """
    return _set_thresholds(_NEVER)


def _set_thresholds(size: int) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, size)) and bool(mallopt(_TRIM_THRESHOLD, size))
