"""A whole bench of a tiny case: its report, and what is left out of it. Nothing here looks at a time."""

import dataclasses
import json

import pytest
import torch

from mamlcli.bench.benchmark import BenchSettings, run_benchmark
from mamlcli.bench.cases import EVALUATION, ITERATION
from mamlcli.bench.implementations import (
    AUTO,
    LOOP,
    Agreement,
    Differences,
)
from mamlcli.bench.memory import Memory
from mamlcli.bench.peers import PLAIN_LOOP
from mamlcli.common.errors import MamlError
from tests.helpers.benches import MEMORY, TINY_CASE


def report_of(*cases, **settings):
    lines = []
    report = run_benchmark(BenchSettings(cases, device="cpu", repeats=1, **settings), on_note=lines.append)
    return report.to_json(), lines


def test_report_has_the_form_that_programs_read(quick):
    report, lines = report_of(TINY_CASE)
    assert (report["settings"]["kinds"], report["settings"]["tasks_of_cases"]) == (
        {"tiny": "meta-gradient"},
        {"tiny": 16},
    )
    assert set(report["machine"]["load"]) == {"before", "after", "by_others"}
    assert report["machine"]["copy_gb_per_s"] == {"1": 1.0}
    assert set(report) >= {"machine", "settings", "rows", "ratios"}
    json.dumps(report, allow_nan=False)  # primitives and finite numbers only
    assert [row["implementation"] for row in report["rows"]][:3] == [AUTO, LOOP, PLAIN_LOOP]
    for row in report["rows"]:
        assert row["case"] == "tiny"
        assert set(row["seconds_per_meta_iteration"]) == {"median", "min", "max", "repeats"}
        assert row["seconds_per_meta_iteration"]["repeats"] == 1
        assert (row["peak_memory_mb"], row["baseline_memory_mb"]) == (321.5, 300.25)
        assert row["float64_difference"] < 1e-8
        assert row["threads"] == 1
        assert row["fraction_of_matmul"] > 0
        # Its operations were counted on two tasks of 16; the rates of this bench are 1e9 a second.
        median = row["seconds_per_meta_iteration"]["median"]
        assert row["bandwidth_gb_per_s"] == pytest.approx(row["traffic_gb"] / median, rel=0.05)
        assert row["fraction_of_copy"] == pytest.approx(row["bandwidth_gb_per_s"])
        assert (row["execution"] is not None) == row["is_ours"]
    peers = [row["implementation"] for row in report["rows"] if not row["is_ours"]]
    assert [(ratio["case"], ratio["mamlcli"], ratio["peer"]) for ratio in report["ratios"]] == [
        ("tiny", AUTO, peer) for peer in peers
    ]
    assert sum(ratio["is_fastest_peer"] for ratio in report["ratios"]) == 1
    assert any("same meta-gradient" in line for line in lines)
    assert torch.get_num_threads() == 1


def test_absent_peers_are_left_out_with_a_line(quick, no_peers):
    report, lines = report_of(TINY_CASE)
    assert report["notes"][:3] == ["higher is gone", "so is TorchOpt", "and jax"]
    assert lines[:3] == report["notes"][:3]
    assert [row["implementation"] for row in report["rows"]] == [AUTO, LOOP, PLAIN_LOOP]


def test_a_peer_that_disagrees_is_left_out_and_ours_is_an_error(quick, no_peers, monkeypatch):
    wrong = Differences(1e-3, 1e-3)
    right = Agreement.differences

    def differences(self, implementation):
        return wrong if implementation.name == culprit else right(self, implementation)

    monkeypatch.setattr(Agreement, "differences", differences)
    culprit = PLAIN_LOOP
    report, _ = report_of(TINY_CASE)
    assert PLAIN_LOOP not in [row["implementation"] for row in report["rows"]]
    assert "tiny: plain loop is left out: its meta-gradient differs by 1.0e-03 in float64" in report["notes"]
    culprit = AUTO
    with pytest.raises(MamlError, match=r"tiny, mamlcli \(auto\): expected the meta-gradient of a plain loop"):
        report_of(TINY_CASE)


def test_an_implementation_that_dies_is_left_out_with_the_reason(quick, no_peers, monkeypatch):
    def memory(request):
        return Memory(failure="its process was killed") if request.implementation.name == LOOP else MEMORY

    monkeypatch.setattr("mamlcli.bench.benchmark.measure_memory", memory)
    report, lines = report_of(TINY_CASE)
    assert "tiny: mamlcli loop is left out: its process was killed" in lines
    assert LOOP not in [row["implementation"] for row in report["rows"]]


@pytest.mark.parametrize(("kind", "tasks"), [(ITERATION, 3), (EVALUATION, 5)])
def test_whole_iterations_and_evaluations_have_rows_of_ours_and_of_the_plain_loop(kind, tasks, quick, no_peers):
    report, _ = report_of(dataclasses.replace(TINY_CASE, kind=kind, tasks=tasks, shots=1))
    assert [row["implementation"] for row in report["rows"]] == [AUTO, LOOP, PLAIN_LOOP]
    assert all(row["float64_difference"] < 1e-8 and row["traffic_gb"] > 0 for row in report["rows"])
