"""A bench that takes no time, and a report with made-up numbers."""

from __future__ import annotations

from types import SimpleNamespace

from mamlcli.bench.cases import (
    CASES,
    Case,
)
from mamlcli.bench.implementations import AUTO
from mamlcli.bench.load import Load
from mamlcli.bench.memory import Memory
from mamlcli.bench.peers import PEERS
from mamlcli.bench.results import BenchReport, BenchRow, Conditions, Machine, ratios
from mamlcli.engine.execution import Execution
from mamlcli.training.tuned import TimeSpread

TINY_CASE = Case(
    "tiny",
    "CNN 1x2",
    "cifar-fs-5way-5shot",
    ("tasks.ways=2", "tasks.shots=5", "tasks.queries=5", "model.depth=1", "model.width=2", "inner.steps=1"),
    (1, 4, 4),
    ways=2,
)


IMAGES = ("tasks.ways=3", "tasks.shots=5", "tasks.queries=5", "model.depth=2", "model.width=4", "inner.steps=3")
CONV = Case("conv", "tiny", "cifar-fs-5way-5shot", (*IMAGES, "model.stride=2"), (2, 7, 6), ways=3)
SMALL_CASES = {
    "conv": CONV,
    "conv-stride-1": Case("conv-stride-1", "tiny", "cifar-fs-5way-5shot", IMAGES, (3, 4, 4), ways=3),
    "kfo": Case("kfo", "tiny", "cifar-fs-5way-5shot", (*CONV.overrides, "inner.transform=kfo"), (2, 7, 6), ways=3),
    "anil": Case("anil", "tiny", "cifar-fs-5way-5shot-anil", IMAGES, (3, 4, 4), ways=3),
    "linear": Case("linear", "tiny", "logistic", ("model.depth=3", "model.width=5", "inner.steps=3"), (4,), ways=2),
}

# Fused batch norm and another graph: rounding of 1e-16, grown through three steps. It is what the bench asks for.
SAME = 1e-8

# What a process took, where none is started.
MEMORY = Memory(321.5, 300.25)


def make_bench_quick(monkeypatch):
    """Take one short sample, start no process for memory and multiply no large matrices."""
    make_samples_short(monkeypatch)
    monkeypatch.setattr("mamlcli.bench.benchmark.measure_memory", lambda request: MEMORY)
    monkeypatch.setattr("mamlcli.bench.timing.matmul_flops_per_s", lambda device, threads: 1e9)
    monkeypatch.setattr("mamlcli.bench.timing.copy_bytes_per_s", lambda device, threads: 1e9)


def make_samples_short(monkeypatch):
    """Let a sample of time be one call."""
    monkeypatch.setattr("mamlcli.bench.timing.SAMPLE_S", 0.0)
    # Collecting garbage is slow in a process of many tests.
    monkeypatch.setattr("mamlcli.bench.timing.gc", SimpleNamespace(collect=lambda: 0))


def made_up_row(case, name, *, is_ours, seconds):
    """Return a row with numbers as long as they get."""
    return BenchRow(
        case,
        name,
        is_ours,
        threads=2,
        execution=Execution("batched", 16) if is_ours else None,
        peak_memory_mb=12_345.6 if name != "higher" else None,
        baseline_memory_mb=512.5,
        float64_difference=1e-12,
        float32_difference=1.2e-5,
        compile_s=61.2 if name in ("mamlcli compiled", "jax") else None,
        gflop=1.0,
        checked_tasks=16,
        seconds_per_meta_iteration=seconds,
        fraction_of_matmul=0.4321,
        traffic_gb=12.3456,
        bandwidth_gb_per_s=123.4 if name != "higher" else None,
        fraction_of_copy=1.234,
    )


def made_up_report():
    """A report of some cases, with numbers as long as they get."""
    names = [
        "mamlcli (auto)",
        "mamlcli loop",
        "mamlcli compiled",
        "mamlcli constant",
        *PEERS,
    ]
    cases = ["omniglot", "cifar-fs-release", "steps-1", "steps-100"]
    rows = tuple(
        made_up_row(case, name, is_ours=name.startswith("mamlcli"), seconds=TimeSpread(123.4 + i, 120.1, 140.2 + i, 3))
        for case in cases
        for i, name in enumerate(names)
    )
    conditions = Conditions(
        cases={name: CASES[name].words for name in cases},
        shots=5,
        queries=5,
        tasks=16,
        inner_steps=5,
        order=2,
        dtype="float32",
        reference="plain loop in float64",
        tolerance=1e-8,
        repeats=None,
        seconds_per_case=45.0,
        tf32_convolutions=False,
        tf32_matmul=False,
    )
    machine = Machine(
        "cpu (2 cores)",
        "A Processor",
        2,
        2,
        {"mamlcli": "0.1.0", "torch": "2.15.0"},
        "2026-01-01T00:00:00+00:00",
        {"higher": "0.2.1", "torchopt": "not installed", "jax": "0.10.2"},
        {1: 80.1, 2: 163.4},
        {1: 11.1, 2: 18.7},
        Load([0.52, 0.61, 0.7], [1.9, 1.2, 0.9], 0.034),
    )
    return BenchReport(machine, conditions, rows, tuple(ratios(rows, AUTO)), ("left out: x",))
