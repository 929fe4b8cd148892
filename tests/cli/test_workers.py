"""`mamlcli train --workers` and torchrun's environment, run as a user would: several processes, one run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mamlcli.cli.workers import num_workers_of
from mamlcli.common.machine import num_cores
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import load_checkpoint
from tests.helpers.processes import is_alive, wait_for
from tests.helpers.running import (
    TINY,
    Finished,
    Program,
    assert_same_results,
    end_of,
    iterations_done,
    results,
    stop_when,
    train_tiny,
)

# Five tasks, so that the shares of two workers differ; long enough to be cut.
KEYS = (
    "execution.dtype=float64",
    "outer.tasks=5",
    "outer.iterations=400",
    "outer.checkpoint_every=150",
    "validation={every: 200, tasks: 3}",
)
WORDS = ("linear-regression", *TINY, *KEYS)

# The bound of the requirement; seen are 1e-15.
SAME_SUMS = 1e-10


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    before = torch.get_num_threads()
    run = train_tiny(tmp_path_factory.mktemp("alone") / "run", "linear-regression", *KEYS)
    torch.set_num_threads(before)
    return run.path


def assert_close_results(first, second):
    (tensors, metrics, evaluation), (other_tensors, other_metrics, other_evaluation) = results(first), results(second)
    assert [set(record) for record in metrics] == [set(record) for record in other_metrics]
    for name, value in tensors.items():
        assert torch.allclose(value, other_tensors[name], rtol=SAME_SUMS, atol=SAME_SUMS), name
    losses = [[point["loss"]["mean"] for point in found["curve"]] for found in (evaluation, other_evaluation)]
    assert losses[0] == pytest.approx(losses[1], rel=SAME_SUMS)


def workers_of(process) -> list[int]:
    """Return the process ids of a parent's workers, in the order in which they were started."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return sorted(pid for pid, parent in pairs if parent == process.pid)


@dataclass(frozen=True)
class Cut:
    """A run of two workers, one of which was killed, as it was then; and how it went on."""

    run: Path
    ended: Finished
    workers: list[int]
    manifest: dict
    iteration: int
    metrics_until: int
    resumed: Finished


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    run = folder / "run"
    with pytest.MonkeyPatch.context() as patch, Program(folder) as program:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        process = program.start("train", *WORDS, "--workers", 2, "--run-dir", "run")
        wait_for(lambda: iterations_done(run) >= 2)
        workers = workers_of(process)
        os.kill(workers[-1], signal.SIGKILL)
        ended = end_of(process)
        checkpoint = load_checkpoint(RunDirectory(run), "last")
        assert checkpoint is not None
        then = RunDirectory(run).manifest, checkpoint[1]["iteration"], iterations_done(run)
        resumed = program("train", "--resume", "--run-dir", "run")  # with as many workers as it had
        yield Cut(run, ended, workers, *then, resumed)


def test_killed_worker_ends_the_run_and_is_named(cut):
    assert cut.ended.code == 1, cut.ended.err
    assert "linear-regression on cpu" in cut.ended.err
    assert "2 workers" in cut.ended.err
    lost, killed = cut.ended.errors
    assert lost.startswith("workers: expected an answer of all 2, got ")
    assert "Go on: mamlcli train --resume --run-dir run" in lost
    assert killed.startswith("worker 1: expected it to work to the end of the run, got killed (SIGKILL")
    assert "Traceback" not in cut.ended.err
    assert not any(map(is_alive, cut.workers))


def test_killed_worker_costs_no_iteration(cut):
    assert cut.manifest["status"] == "failed"
    assert cut.manifest["execution"]["workers"] == 2
    assert cut.iteration == cut.manifest["iterations_done"] == cut.metrics_until < 400


def test_resumed_workers_give_the_results_of_one_process(cut, alone):
    assert cut.resumed.code == 0, cut.resumed.err
    assert "2 workers" in cut.resumed.err
    assert RunDirectory(cut.run).manifest["execution"]["workers"] == 2
    assert_close_results(cut.run, alone)


def test_interrupted_workers_save_the_run_and_another_number_goes_on(program, cli, tmp_path, alone):
    run = tmp_path / "run"
    process = program.start("train", *WORDS, "--workers", 2, "--run-dir", "run")
    stop_when(process, lambda: iterations_done(run) >= 2, signal.SIGINT)
    ended = end_of(process)
    assert ended.code == 130, ended.err
    assert ended.errors == []
    assert ended.err.count("interrupted after iteration") == 1
    assert "Continue: mamlcli train --resume --run-dir run" in ended.err
    assert RunDirectory(run).manifest["status"] == "interrupted"

    again = cli("train", "--resume", "--run-dir", "run", "--workers", 1)
    assert again.code == 0, again.err
    assert "workers: 1 now, 2 before; sums in another order round differently" in again.err
    assert RunDirectory(run).manifest["execution"]["workers"] == 1
    assert_close_results(run, alone)


def set_torchruns(monkeypatch, port, *, rank, num_workers):
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_workers}
    for name, value in {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_torchruns_environment_gives_the_bits_of_the_option_even_if_that_was_cut(program, tmp_path, monkeypatch, cut):
    port, processes = free_port(), []
    for rank in range(2):
        set_torchruns(monkeypatch, port, rank=rank, num_workers=2)
        processes.append(program.start("train", *WORDS, "--run-dir", "run", "--json"))
    first, second = map(end_of, processes)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert json.loads(first.out)["final"]["step"] == 5
    assert (second.out, second.err) == ("", "")
    assert_same_results(tmp_path / "run", cut.run)


def all_stop_for_a_while(processes, seconds):
    """As Ctrl-Z and fg do."""
    for number, wait_s in ((signal.SIGSTOP, seconds), (signal.SIGCONT, 0.0)):
        for process in processes:
            process.send_signal(number)
        time.sleep(wait_s)


@pytest.mark.parametrize("lost", [0, 1])
def test_worker_that_falls_silent_without_a_word_ends_the_run_and_is_named(program, tmp_path, monkeypatch, lost):
    """A stopped process closes no connection, as a machine that is lost."""
    port, processes = free_port(), []
    for rank in range(2):
        set_torchruns(monkeypatch, port, rank=rank, num_workers=2)
        keys = ("outer.iterations=100000", "execution.worker_timeout=3")
        processes.append(program.start("train", *WORDS, *keys, "--run-dir", "run"))
    wait_for(lambda: iterations_done(tmp_path / "run") >= 2)
    all_stop_for_a_while(processes, 4)
    before = iterations_done(tmp_path / "run")
    wait_for(lambda: iterations_done(tmp_path / "run") > before + 2)
    processes[lost].send_signal(signal.SIGSTOP)
    ended = end_of(processes[1 - lost])
    assert ended.code == 1
    [error] = ended.errors
    silent = f"got no sign of life of worker {lost} on {socket.gethostname()} for 3 s (execution.worker_timeout)."
    assert silent in error
    if lost:
        assert error.startswith("workers: expected an answer of all 2, ")
        assert "Go on: mamlcli train --resume --run-dir run" in error
    else:
        assert error.startswith("worker 1: expected an answer of worker 0, ")
        assert error.endswith("The run goes on from its last checkpoint with --resume.")


# What is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--workers", 0], "--workers: expected auto or an integer >= 1, got '0'."),
        (["--workers", "two"], "--workers: expected auto or an integer >= 1, got 'two'."),
        (["--workers", 3], "--workers: expected at most outer.tasks=2, one task for each, got 3."),
        (["--workers", 3, "--dry-run"], "--workers: expected at most outer.tasks=2, one task for each, got 3."),
        (["--workers", 2, "--device", "cuda:1"], "--device: expected cuda, cpu or auto for 2 workers, got 'cuda:1'."),
        (["--workers", 2, "--device", "mps"], "--device: expected cuda, cpu or auto for 2 workers, got 'mps'."),
    ],
)
def test_number_that_cannot_be_is_one_line(cli, tmp_path, words, expected):
    ended = cli("train", "linear-regression", *TINY, *words)
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert ended.errors[0].startswith(expected)
    assert list(tmp_path.iterdir()) == []


def test_torchruns_variables_half_set_are_one_line(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ended = cli("train", "linear-regression", *TINY)
    assert ended.code == 1
    assert "got RANK, WORLD_SIZE without MASTER_ADDR, MASTER_PORT" in ended.errors[0]
    assert list(tmp_path.iterdir()) == []


def test_address_alone_is_a_note(cli, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    assert "MASTER_ADDR without RANK and WORLD_SIZE: this" in cli("train", "linear-regression", "--dry-run").err
    assert "MASTER_ADDR" not in cli("train", "linear-regression", "--dry-run", "--workers", 1).err


def test_another_number_than_torchruns_is_one_line(program, tmp_path, monkeypatch):
    set_torchruns(monkeypatch, free_port(), rank=0, num_workers=1)
    ended = program("train", "linear-regression", *TINY, "--workers", 2)
    assert ended.code == 1
    assert ended.errors == [
        "--workers: expected 1, the processes that a launcher such as torchrun started (WORLD_SIZE), got 2. Leave it "
        "out under torchrun."
    ]
    assert list(tmp_path.iterdir()) == []


def test_tasks_of_srun_have_to_be_told_what_they_are(cli, tmp_path, monkeypatch):
    for name, value in {"PROCID": 1, "NTASKS": 2, "STEP_ID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    ended = cli("train", "linear-regression", *TINY)
    assert ended.code == 1
    assert "expected 2, to share one run among the tasks of srun, or 1, for a run in each" in ended.errors[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("recorded", "used"), [(500, max(num_cores(), 8)), (3, 3), (0, 1)])
def test_a_manifest_does_not_choose_how_many_processes_are_started(monkeypatch, tmp_path, recorded, used):
    name, recipe = load_recipe("linear-regression", ("outer.tasks=1000",))
    run = RunDirectory.create(tmp_path / "run", recipe, name)
    monkeypatch.setattr("mamlcli.training.manifest.recorded_workers", lambda run: recorded)
    assert num_workers_of(None, recipe, None, run=run.path) == used


def test_worker_whose_peers_never_come_says_where_it_waits_and_hears_ctrl_c(program, tmp_path, monkeypatch):
    port = free_port()
    set_torchruns(monkeypatch, port, rank=0, num_workers=2)
    process = program.start("train", *WORDS, "--run-dir", "run")
    line = process.stderr.readline()
    assert line == f"worker 0 waits at 127.0.0.1:{port} for the others of 2, for 15 minutes at most\n"
    process.send_signal(signal.SIGINT)
    ended = end_of(process)
    assert (ended.code, ended.err) == (130, "interrupted\n")
    assert list(tmp_path.glob("run*")) == []


def test_auto_is_one_worker_on_the_cpu(cli, tmp_path):
    assert cli("train", "linear-regression", *TINY, "--workers", "auto").code == 0
    assert RunDirectory(tmp_path / "runs" / "linear-regression-1").manifest["execution"]["workers"] == 1
