"""One run from start to end: what it leaves behind, and that a cut run ends as an uncut one."""

from __future__ import annotations

import signal
from itertools import pairwise

import pytest

import mamlcli.training.experiment as training_experiment
import mamlcli.training.networks as training_networks
from mamlcli.common.errors import Interrupted, MamlError, NonFiniteError, RunError
from mamlcli.engine.outer_loop import StepRecord, ValidationRecord
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import load_checkpoint
from mamlcli.training.planned import Progress
from mamlcli.training.scoring import finished_result
from tests.helpers.running import (
    assert_same_results,
    cut_after,
    end_of,
    iterations_done,
    report_of,
    stop_when,
    train_tiny,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# What a run leaves behind ----------------------------------------------------------------------------------


def test_run_leaves_every_file_of_the_run_directory(logistic):
    found = {str(path.relative_to(logistic)) for path in logistic.rglob("*") if path.is_file()}
    assert found == {
        "recipe.yaml",
        "manifest.json",
        "metrics.jsonl",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "evaluation.json",
        "tasks.csv",
        "curve.png",
        "curve.svg",
        "lock",
    }


def test_recipe_of_the_run_gives_the_run_again(logistic):
    run = RunDirectory.open(logistic)
    assert run.recipe == load_recipe(str(logistic / "recipe.yaml"))[1]
    assert run.recipe.evaluation.steps == 2


def test_metrics_hold_every_step_and_validation(logistic):
    records = list(RunDirectory.open(logistic).read_metrics())
    assert [(record["kind"], record["iteration"]) for record in records] == [
        ("step", 1),
        ("validation", 1),
        ("step", 2),
        ("validation", 2),
    ]
    assert {"outer_loss", "accuracy", "grad_norm", "lr", "elapsed_s"} <= set(records[0])
    assert {"loss", "accuracy", "is_best"} <= set(records[1])
    assert all(a["elapsed_s"] <= b["elapsed_s"] for a, b in pairwise(records))


def test_best_checkpoint_is_that_of_the_best_validation(logistic):
    run = RunDirectory.open(logistic)
    validations = [record for record in run.read_metrics() if record["kind"] == "validation"]
    best = max(validations, key=lambda record: record["accuracy"])  # the first of equals
    primitives = load_checkpoint(run, "best")[1]
    assert primitives == {"iteration": best["iteration"], "score": best["accuracy"]}
    assert report_of(logistic)["weights"] == f"best by meta-validation, iteration {best['iteration']}"


def test_one_training_makes_its_objective_and_its_weights_once(tmp_path, monkeypatch):
    calls = {"inner_loop_for": 0, "initial_params": 0}

    def counted(module, name):
        function = getattr(module, name)

        def call(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    counted(training_experiment, "inner_loop_for")
    counted(training_networks, "initial_params")
    words = ("validation={every: 1, tasks: 3}", "evaluation.steps=3", "inner.transform=kfo")
    train_tiny(tmp_path / "run", "linear-regression", *words)
    # One more objective, without memory of its own, says how much memory the run needs.
    assert calls == {"inner_loop_for": 2, "initial_params": 1}


# Stopping early, diverging ---------------------------------------------------------------------------------


def test_run_that_stops_early_says_so_and_is_finished(tmp_path):
    words = ("validation={every: 1, tasks: 3, patience: 2}", "outer.iterations=50", "outer.lr=1e-30")
    run = train_tiny(tmp_path / "run", "linear-regression", *words)
    # With a rate of nothing, the first validation stays the best, and two more end it.
    assert run.manifest["status"] == "stopped early"
    assert run.manifest["iterations_done"] == 3
    assert list(run.read_metrics())[-1]["kind"] == "stop"
    assert finished_result(run).to_json() == report_of(run.path)


@pytest.mark.parametrize("lr", ["1e30", "1e12"])
def test_run_that_diverges_says_where_and_keeps_its_state(tmp_path, lr):
    with pytest.raises(NonFiniteError, match=r"iteration 1: .*inner\.lr is too high.*checkpoints"):
        train_tiny(tmp_path / "run", "linear-regression", f"inner.lr={lr}")
    run = RunDirectory.open(tmp_path / "run")
    assert run.manifest["status"] == "failed"
    assert "iteration 1" in run.manifest["reason"]
    assert load_checkpoint(run, "last")[1]["iteration"] == 0


# Resuming, in this process ---------------------------------------------------------------------------------

RESUMABLE = (
    "outer.iterations=12",
    "outer.checkpoint_every=5",
    "validation={every: 4, tasks: 3}",
    "inner.transform=kfo",
    "outer.schedule=cosine",
)


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("runs") / "uncut", "linear-regression", *RESUMABLE).path


class Power(BaseException):
    """The power went: nothing has a chance to save anything."""


@pytest.mark.parametrize("iteration", [1, 4, 5, 7, 8, 11, 12])
def test_interrupted_run_goes_on_where_it_was_to_the_same_result(tmp_path, uncut, iteration):
    progress, started = cut_after(StepRecord, iteration, Interrupted("now"))
    with pytest.raises(Interrupted):
        train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE, progress=progress)
    assert RunDirectory.open(tmp_path / "cut").manifest["status"] == "interrupted"
    run = train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE, progress=progress)
    assert started == [0, iteration]
    assert run.manifest["resumed_from"] == [iteration]
    assert run.manifest["status"] == "done"
    assert run.manifest["reason"] is None
    assert_same_results(uncut, run.path)


@pytest.mark.parametrize(
    ("kind", "iteration"),
    [
        (StepRecord, 2),
        (ValidationRecord, 4),
        (StepRecord, 5),
        (StepRecord, 6),
        (ValidationRecord, 8),
        (StepRecord, 12),
        (ValidationRecord, 12),
    ],
)
def test_run_that_an_error_ended_goes_on_from_there_to_the_same_result(tmp_path, uncut, kind, iteration):
    progress, started = cut_after(kind, iteration, Power())
    with pytest.raises(Power):
        train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE, progress=progress)
    run = train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE, progress=progress)
    assert started == [0, iteration]
    assert_same_results(uncut, run.path)


def test_run_cut_in_its_evaluation_evaluates_again(tmp_path, uncut):
    def cut(_num_tasks):
        raise Power

    with pytest.raises(Power):
        train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE, progress=Progress(on_evaluation=cut))
    assert not (tmp_path / "cut" / "evaluation.json").exists()
    assert_same_results(uncut, train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE).path)


def test_run_cut_twice_remembers_both(tmp_path, uncut):
    for iteration in (3, 9):
        progress, _ = cut_after(StepRecord, iteration, Interrupted("now"))
        with pytest.raises(Interrupted):
            train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE, progress=progress)
    wall_before = RunDirectory.open(tmp_path / "cut").manifest["wall_s"]
    run = train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE)
    assert run.manifest["resumed_from"] == [3, 9]
    assert run.manifest["wall_s"] > wall_before
    assert_same_results(uncut, run.path)


def test_early_stopping_is_resumed_too(tmp_path):
    words = ("validation={every: 1, tasks: 3, patience: 3}", "outer.iterations=50", "outer.lr=1e-30")
    uncut = train_tiny(tmp_path / "uncut", "linear-regression", *words).path
    progress, _ = cut_after(StepRecord, 3, Interrupted("now"))
    with pytest.raises(Interrupted):
        train_tiny(tmp_path / "cut", "linear-regression", *words, progress=progress)
    assert_same_results(uncut, train_tiny(tmp_path / "cut", "linear-regression", *words).path)


def test_checkpoint_of_another_model_is_refused(tmp_path):
    progress, _ = cut_after(StepRecord, 1, Interrupted("now"))
    for name, words in (("a", ()), ("b", ("tasks.dimension=3",))):
        with pytest.raises(Interrupted):
            train_tiny(tmp_path / name, "linear-regression", *words, progress=progress)
        progress, _ = cut_after(StepRecord, 1, Interrupted("now"))
    place = "checkpoints/last.safetensors"
    (tmp_path / "a" / place).write_bytes((tmp_path / "b" / place).read_bytes())
    with pytest.raises(RunError, match=r"expected the tensors of this recipe's model"):
        train_tiny(tmp_path / "a")


# Resuming, with real processes and signals -----------------------------------------------------------------

LONG = (
    "linear-regression",
    "outer.iterations=60",
    "outer.tasks=2",
    "validation={every: 7, tasks: 3}",
    "evaluation.tasks=4",
    "tasks.shots=4",
    "tasks.queries=3",
    "inner.steps=2",
    "execution.threads=1",
    "execution.device=cpu",
    "outer.checkpoint_every=5",
)


@pytest.fixture(scope="module")
def uncut_long(tmp_path_factory):
    from tests.helpers.running import Program

    folder = tmp_path_factory.mktemp("uncut")
    with Program(folder) as program:
        ended = program("train", *LONG)
    assert ended.code == 0, ended.err
    return folder / "runs" / "linear-regression-1"


def between_checkpoints(run):
    """Whether steps are done that the last checkpoint (every 5) does not have."""
    return lambda: iterations_done(run) > 20 and iterations_done(run) % 5 in (1, 2, 3)


def test_killed_process_is_resumed_to_the_result_of_an_uninterrupted_one(program, tmp_path, uncut_long):
    run = tmp_path / "runs" / "linear-regression-1"
    process = program.start("train", *LONG)
    stop_when(process, between_checkpoints(run), signal.SIGKILL)
    assert end_of(process).code == -signal.SIGKILL
    killed_at = iterations_done(run)
    checkpoint = load_checkpoint(RunDirectory(run), "last")[1]["iteration"]
    assert checkpoint < killed_at < 60
    assert RunDirectory(run).manifest["status"] == "running"
    resumed = program("train", "--resume", "--run-dir", run)
    assert resumed.code == 0, resumed.err
    assert f"resuming from iteration {checkpoint}" in resumed.err
    assert_same_results(uncut_long, run)


def test_process_killed_before_its_first_checkpoint_starts_over_and_says_so(program, tmp_path, uncut_long, cli):
    run = tmp_path / "runs" / "linear-regression-1"
    process = program.start("train", *LONG, "outer.checkpoint_every=1000")
    stop_when(process, lambda: iterations_done(run) > 10, signal.SIGKILL)
    end_of(process)
    resumed = cli("train", "--resume", "--run-dir", run)
    assert resumed.code == 0, resumed.err
    assert "resuming from the start: the run has no checkpoint yet" in resumed.err
    assert_same_results(uncut_long, run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_run_with_its_state_saved(program, tmp_path, uncut_long, cli, number):
    run = tmp_path / "runs" / "linear-regression-1"
    process = program.start("train", *LONG, "outer.checkpoint_every=1000")
    stop_when(process, lambda: iterations_done(run) > 10, number)
    ended = end_of(process)
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert f"Continue: mamlcli train --resume --run-dir {run.relative_to(tmp_path)}" in " ".join(ended.err.split())
    assert ended.out == ""
    manifest = RunDirectory(run).manifest
    done = load_checkpoint(RunDirectory(run), "last")[1]["iteration"]
    assert (manifest["status"], manifest["iterations_done"]) == ("interrupted", done)
    resumed = cli("train", "--resume", "--run-dir", run)
    assert resumed.code == 0, resumed.err
    assert f"resuming from iteration {done}" in resumed.err
    assert_same_results(uncut_long, run)


def test_running_out_of_memory_names_the_keys_and_their_values(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TiB.")

    monkeypatch.setattr("mamlcli.training.functions.meta_gradients", refuse)
    with pytest.raises(MamlError) as caught:
        train_tiny(tmp_path / "run", "logistic", "inner.steps=3")
    text = str(caught.value)
    assert "execution.chunk=2, inner.steps=3, inner.memory=unrolled" in text
    assert "model.depth=1" in text
    assert "Set execution.chunk=1, then inner.memory=constant" in text
