"""The bench: cases, operations counted, the report. Nothing here looks at a time."""

import dataclasses
import io
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from mamlcli.bench import benchmark
from mamlcli.bench.benchmark import BenchSettings, run_benchmark
from mamlcli.bench.cases import (
    CASES,
    Case,
    case_flops,
    chosen_cases,
    experiment_of,
    meta_gradient_flops,
    problem_of,
)
from mamlcli.bench.figure import save_report
from mamlcli.bench.implementations import (
    AUTO,
    LOOP,
    OURS,
    Agreement,
    Differences,
    Implementation,
    implementations,
)
from mamlcli.bench.memory import Memory, MemoryRequest, measure_memory, memory_job, process_peak_mb
from mamlcli.bench.peers import PLAIN_LOOP
from mamlcli.bench.results import BenchReport, BenchRow, Machine, Ratio, ratios
from mamlcli.bench.tables import bench_parts
from mamlcli.common.errors import MamlError, RunError
from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import cnn, linear
from mamlcli.engine.sizes import forward_flops
from mamlcli.training.tuned import TimeSpread
from tests.helpers.numerics import DOUBLE

TINY_CASE = Case(
    "tiny",
    "CNN 1x2",
    "cifar-fs-5way-5shot",
    ("tasks.ways=2", "tasks.shots=5", "tasks.queries=5", "model.depth=1", "model.width=2", "inner.steps=1"),
    (1, 4, 4),
    ways=2,
)
MEMORY = Memory(321.5, 300.25)


@pytest.fixture(autouse=True)
def threads(one_thread):
    """The tensors here are small."""


@pytest.fixture
def quick(monkeypatch):
    """Take one short sample, no process for memory and no large matrix product."""
    monkeypatch.setattr("mamlcli.bench.timing._SAMPLE_S", 0.0)
    monkeypatch.setattr(
        "mamlcli.bench.timing.gc", SimpleNamespace(collect=lambda: 0)
    )  # slow in a process of many tests
    monkeypatch.setattr("mamlcli.bench.benchmark.measure_memory", lambda request: MEMORY)
    monkeypatch.setattr("mamlcli.bench.benchmark.matmul_flops_per_s", lambda device, threads: 1e9)


@pytest.fixture
def no_peers(monkeypatch):
    """Leave out the peers that are libraries."""
    for module in ("implementations", "benchmark"):
        monkeypatch.setattr(
            f"mamlcli.bench.{module}.absent_peers", lambda: {"higher": "higher is gone", "TorchOpt": "so is TorchOpt"}
        )


def report_of(*cases, **settings):
    lines = []
    report = run_benchmark(BenchSettings(cases, device="cpu", repeats=1, **settings), on_note=lines.append)
    return report.to_json(), lines


# Cases --------------------------------------------------------------------------------------------------------


def test_cases_are_chosen_by_name_and_group_in_order():
    assert [case.name for case in chosen_cases(["kfo", "omniglot", "kfo"])] == ["kfo", "omniglot"]
    names = [case.name for case in chosen_cases(["steps"])]
    assert names == ["steps-1", "steps-5", "steps-25", "steps-100"]
    assert next(case.name for case in chosen_cases(["steps-25", "steps"])) == "steps-25"


def test_unknown_case_is_an_error_with_the_nearest_name():
    with pytest.raises(MamlError, match=r"--cases: expected names of .*, got 'omniglt'\. Did you mean 'omniglot'\?"):
        chosen_cases(["omniglt"])
    with pytest.raises(MamlError, match="got none"):
        chosen_cases([])


@pytest.mark.parametrize("name", CASES)
def test_cases_are_what_they_say(name):
    recipe = experiment_of(CASES[name], device="cpu").recipe
    assert (recipe.outer.tasks, recipe.inner.algorithm, recipe.inner.first_order) == (16, "maml", False)
    expected_steps = int(name.partition("-")[2]) if name.startswith("steps") else 5
    assert recipe.inner.steps == expected_steps
    assert recipe.inner.transform.name == ("kfo" if name == "kfo" else "none")
    inputs = problem_of(CASES[name], device="cpu", num_tasks=1).episode.support_x
    assert inputs.shape[1] == (10 if name == "logistic" else 25)


def test_networks_of_the_cases():
    def shapes(name):
        return [
            tuple(p.shape) for _, p in experiment_of(CASES[name], device="cpu").network.named_parameters() if p.ndim > 1
        ]

    assert shapes("omniglot") == [(64, 1, 3, 3), *[(64, 64, 3, 3)] * 3, (5, 64)]
    assert shapes("cifar-fs") == [(32, 3, 3, 3), *[(32, 32, 3, 3)] * 3, (5, 32)]
    assert shapes("cifar-fs-release") == [(32, 3, 3, 3), (32, 32, 3, 3), (5, 32)]
    assert shapes("logistic") == [(100, 100), (100, 100), (2, 100)]
    assert shapes("kfo") == shapes("cifar-fs")
    assert shapes("steps-25") == shapes("omniglot")


def test_fewer_tasks_are_the_first_ones_and_precision_changes_no_number():
    many = problem_of(TINY_CASE, device="cpu", num_tasks=3)
    few = problem_of(TINY_CASE, device="cpu", dtype=DOUBLE, num_tasks=2)
    assert few.episode.support_x.dtype == DOUBLE
    assert torch.equal(few.episode.support_x.float(), many.episode.support_x[:2])
    assert torch.equal(few.episode.support_x, many.episode.support_x[:2].double())
    assert not torch.equal(many.episode.support_x, many.episode.query_x)
    for name, value in many.meta.flat().items():
        assert torch.equal(value.double(), few.meta.flat()[name])


def test_kfo_starts_away_from_the_identity():
    meta = problem_of(CASES["kfo"], device="cpu", num_tasks=1).meta
    left = meta.transform["body.0.conv.weight/left"]
    assert not torch.equal(left, left.T)


# Operations ---------------------------------------------------------------------------------------------------


def test_operations_are_those_counted_by_hand():
    # 5x4 image, stride 2, padding 1 -> 3x2 maps; 3 channels of 2 * 9 multiply-adds each: 6 * 3 * 18 = 324.
    # Second block: 2x1 maps of 3 channels, 3 * 9 multiply-adds each: 2 * 3 * 27 = 162. Head 3 -> 4: 12.
    network = cnn((2, 5, 4), 4, depth=2, width=3, stride=2)
    assert forward_flops(network) == 2 * (324 + 162 + 12)
    # 7 tasks of 6 support inputs, 5 steps of 9 forward passes, and 2 query inputs of 3.
    count = meta_gradient_flops(network, num_support=6, num_query=2, num_steps=5, num_tasks=7)
    assert count == 7 * 996 * (9 * 5 * 6 + 3 * 2)


def test_operations_of_linear_layers_are_two_a_weight():
    assert forward_flops(linear((10,), 2, depth=3, width=7)) == 2 * (70 + 49 + 14)
    assert case_flops(CASES["logistic"]) == 16 * 2 * (10_000 + 10_000 + 200) * (9 * 5 * 10 + 3 * 10)


# The report ---------------------------------------------------------------------------------------------------


def test_report_has_the_form_that_programs_read(quick):
    report, lines = report_of(TINY_CASE)
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
        assert (row["execution"] is not None) == row["is_ours"]
    peers = [row["implementation"] for row in report["rows"] if not row["is_ours"]]
    assert [(ratio["case"], ratio["mamlcli"], ratio["peer"]) for ratio in report["ratios"]] == [
        ("tiny", AUTO, peer) for peer in peers
    ]
    assert sum(ratio["is_fastest_peer"] for ratio in report["ratios"]) == 1
    assert any("same meta-gradient" in line for line in lines)
    assert torch.get_num_threads() == 1


def test_ratios_are_peers_over_auto():
    def row(case, name, median, is_ours=False):
        return made_up_row(case, name, is_ours=is_ours, seconds=TimeSpread(median, 1.0, 9.0, 3))

    rows = [
        row("a", AUTO, 2.0, True),
        row("a", LOOP, 9.0, True),
        row("a", "higher", 6.0),
        row("a", PLAIN_LOOP, 5.0),
        row("b", AUTO, 1.0, True),
    ]
    assert ratios(rows, AUTO) == [
        Ratio("a", AUTO, "higher", speedup=3.0, is_fastest_peer=False),
        Ratio("a", AUTO, PLAIN_LOOP, speedup=2.5, is_fastest_peer=True),
    ]


def test_absent_peers_are_left_out_with_a_line(quick, no_peers):
    report, lines = report_of(TINY_CASE)
    assert report["notes"][:2] == ["higher is gone", "so is TorchOpt"]
    assert lines[:2] == report["notes"][:2]
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


def test_what_a_recipe_refuses_is_left_out_with_a_line(monkeypatch):
    case = dataclasses.replace(TINY_CASE, memory_modes=True)
    refusing = ("inner.no_such_key=constant",)
    original = problem_of

    def refused(case, *, extra=(), **options):
        return original(case, extra=refusing if extra == ("inner.memory=constant",) else extra, **options)

    monkeypatch.setattr("mamlcli.bench.memory.problem_of", refused)
    found, left_out = implementations(case, device="cpu")
    assert "mamlcli constant" not in [implementation.name for implementation in found]
    assert len(left_out) == 1
    assert left_out[0].startswith("tiny: mamlcli constant is left out: command line: inner.no_such_key")


# Memory -------------------------------------------------------------------------------------------------------


def test_memory_is_of_a_fresh_process_that_its_parent_does_not_count_in():
    ballast = torch.ones(200_000_000)  # 800 MB, touched
    found = measure_memory(MemoryRequest(TINY_CASE, Implementation(PLAIN_LOOP), "cpu", all_threads=1, threads=1))
    assert found.failure is None
    assert 50 < found.baseline_mb <= found.peak_mb < process_peak_mb(torch.device("cpu"))
    assert process_peak_mb(torch.device("cpu")) > ballast.nbytes / 2**20


def test_peak_memory_never_falls():
    request = MemoryRequest(TINY_CASE, OURS[AUTO], "cpu", all_threads=1, threads=1)
    found = memory_job({"request": request}, lambda: False)
    assert 0 < found["baseline_mb"] <= found["peak_mb"]


def test_peak_memory_is_read_from_the_system_or_from_rusage(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t 9999 kB\nVmHWM:\t  2048 kB\n")
    cpu = torch.device("cpu")
    if sys.platform == "linux":
        assert process_peak_mb(cpu, status) == 2.0
    assert process_peak_mb(cpu, tmp_path / "nowhere") > 0


# What is shown ------------------------------------------------------------------------------------------------


def made_up_row(case, name, *, is_ours, seconds):
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
        compile_s=61.2 if name == "mamlcli compiled" else None,
        gflop=1.0,
        checked_tasks=16,
        seconds_per_meta_iteration=seconds,
        fraction_of_matmul=0.4321,
    )


def made_up_report():
    """A report of some cases, with numbers as long as they get."""
    names = ["mamlcli (auto)", "mamlcli loop", "mamlcli compiled", "mamlcli constant", PLAIN_LOOP, "higher", "TorchOpt"]
    cases = ["omniglot", "cifar-fs-release", "steps-1", "steps-100"]
    rows = tuple(
        made_up_row(case, name, is_ours=name.startswith("mamlcli"), seconds=TimeSpread(123.4 + i, 120.1, 140.2 + i, 3))
        for case in cases
        for i, name in enumerate(names)
    )
    machine = Machine(
        "cpu (2 cores)",
        "A Processor",
        2,
        2,
        {"mamlcli": "0.1.0", "torch": "2.15.0"},
        "2026-01-01T00:00:00+00:00",
        {"higher": "0.2.1", "torchopt": "not installed"},
        {1: 80.1, 2: 163.4},
    )
    settings = BenchSettings(tuple(CASES[name] for name in cases))
    conditions = benchmark._conditions(settings, torch.device("cpu"))
    return BenchReport(machine, conditions, rows, tuple(ratios(rows, AUTO)), ("left out: x",))


def shown(width):
    console = Console(width=width, file=io.StringIO())
    for part in bench_parts(made_up_report()):
        console.print(part)
    return console.file.getvalue()


def test_tables_fit_80_columns():
    tables = [line.rstrip() for line in shown(200).splitlines() if re.search(r"\d-\d|rate %", line)]
    assert len(tables) == 4 * 8
    assert max(map(len, tables)) <= 80
    assert all(line in shown(80) for line in tables)


def test_table_says_threads_execution_compile_time_and_what_is_left_out():
    text = " ".join(shown(80).split())
    for words in (
        "163 with 2 threads",
        "compiled in 61.2 s",
        "path batched, chunk 16",
        "left out: x",
        "memory before the first meta-gradient",
        "higher 2; TorchOpt 2",
    ):
        assert words in text


def test_figure_is_a_png_of_every_case(tmp_path):
    report = made_up_report()
    paths = save_report(report, figure=tmp_path / "own" / "x.png", folder=tmp_path / "out")
    assert [path.name for path in paths] == ["x.png", "bench.json", "bench.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (paths[0], paths[2]))
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == report.to_json()
    assert save_report(report, figure=None, folder=None) == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match="expected a place that can be written"):
        save_report(made_up_report(), figure=None, folder=tmp_path / "taken")
