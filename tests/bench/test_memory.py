"""Memory: measured in a process that counts nothing of its parent."""

import sys

import torch

from mamlcli.bench.implementations import (
    AUTO,
    OURS,
    Implementation,
)
from mamlcli.bench.memory import MemoryRequest, measure_memory, memory_job, process_peak_mb
from mamlcli.bench.peers import PLAIN_LOOP
from tests.helpers.benches import TINY_CASE


def test_memory_is_of_a_fresh_process_that_its_parent_does_not_count_in():
    ballast = torch.ones(200_000_000)  # 800 MB, touched
    memory = measure_memory(MemoryRequest(TINY_CASE, Implementation(PLAIN_LOOP), "cpu", all_threads=1, threads=1))
    assert memory.failure is None
    assert 50 < memory.baseline_mb <= memory.peak_mb < process_peak_mb(torch.device("cpu"))
    assert process_peak_mb(torch.device("cpu")) > ballast.nbytes / 2**20


def test_peak_memory_never_falls():
    request = MemoryRequest(TINY_CASE, OURS[AUTO], "cpu", all_threads=1, threads=1)
    memory = memory_job({"request": request}, lambda: False)
    assert 0 < memory["baseline_mb"] <= memory["peak_mb"]


def test_peak_memory_is_read_from_the_system_or_from_rusage(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t 9999 kB\nVmHWM:\t  2048 kB\n")
    cpu = torch.device("cpu")
    if sys.platform == "linux":
        assert process_peak_mb(cpu, status) == 2.0
    assert process_peak_mb(cpu, tmp_path / "nowhere") > 0
