"""One run from start to end: what it leaves behind, and that a cut run ends as an uncut one."""

from __future__ import annotations

import csv
import json
import math
import signal
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

import mamlcli.training.experiment as training_experiment
from mamlcli.common.errors import Interrupted, MamlError, NonFiniteError, RunError
from mamlcli.common.statistics import estimate
from mamlcli.engine.objective import TRAJECTORY_COLUMNS
from mamlcli.engine.outer_loop import StepRecord, ValidationRecord
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import load_checkpoint
from mamlcli.training.dry_run import dry_run
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.planned import Progress
from mamlcli.training.scoring import finished_result
from tests.helpers.running import (
    TINY,
    assert_same_results,
    end_of,
    iterations_done,
    noise_pack,
    stop_when,
    train_run,
    train_tiny,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# What a run leaves behind ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logistic(tmp_path_factory):
    """A run of a classification recipe, with validations."""
    path = tmp_path_factory.mktemp("runs") / "logistic-1"
    return train_tiny(path, "logistic", "validation.every=1", "validation.tasks=3", "inner.steps=2").path


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("runs") / "sinusoid-1", "sinusoid", "evaluation.steps=3").path


def report_of(run):
    return json.loads((run / "evaluation.json").read_text())


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


def test_manifest_tells_what_the_run_depends_on(logistic):
    manifest = RunDirectory.open(logistic).manifest
    assert manifest["status"] == "done"
    assert manifest["argv"] == ["mamlcli", "train"]
    assert manifest["iterations_done"] == 2
    assert (manifest["seed"], manifest["evaluation_seed"]) == (0, 0)
    assert manifest["num_parameters"] == 2 * 20 + 2
    assert manifest["device"].startswith("cpu")
    how = {"path": "explicit", "chunk": 2, "parallel": 1, "compile": False}
    assert how.items() <= manifest["execution"].items()
    assert (manifest["execution"]["threads"], manifest["execution"]["dtype"]) == (1, "float32")
    assert manifest["data"] == {"source": "logistic", "generated": True}
    assert {"mamlcli", "python", "platform", "torch", "numpy"} <= set(manifest["versions"])
    assert manifest["wall_s"] > 0
    assert manifest["peak_memory_mb"] > 1
    assert manifest["started_at"] <= manifest["finished_at"]
    assert manifest["resumed_from"] == []


def test_metrics_hold_every_step_and_validation(logistic):
    records = RunDirectory.open(logistic).read_metrics()
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


def test_without_validation_the_last_weights_are_scored(regression):
    assert report_of(regression)["weights"] == "last, iteration 2"
    assert not (regression / "checkpoints" / "best.safetensors").exists()


def test_curve_is_a_picture(logistic, regression):
    for run in (logistic, regression):
        with Image.open(run / "curve.png") as picture:
            picture.load()
            assert min(picture.size) > 300


NUMBER = {"mean": float, "ci95_over_tasks": float}


def form(value):
    """Return the keys and types of a JSON value."""
    if isinstance(value, dict):
        return {key: form(item) for key, item in value.items()}
    return [form(item) for item in value] if isinstance(value, list) else type(value)


def test_evaluation_of_classification_has_its_machine_readable_form(logistic):
    point = {"step": int, "loss": NUMBER, "support_loss": NUMBER, "accuracy": NUMBER, "support_accuracy": NUMBER}
    assert form(report_of(logistic)) == {
        "run": str,
        "recipe": str,
        "weights": str,
        "protocol": {
            "split": str,
            "num_tasks": int,
            "ways": int,
            "shots": int,
            "queries": int,
            "per_class": bool,
            "inner_steps": int,
            "batch_norm": str,
            "seed": int,
        },
        "curve": [point] * 3,
        "final": point,
        "references": {
            "MAP": {"loss": NUMBER, "accuracy": NUMBER},
            "true weights": {"loss": NUMBER, "accuracy": NUMBER},
        },
        "chance_accuracy": float,
    }


def test_evaluation_of_regression_has_no_accuracy(regression):
    report = report_of(regression)
    assert form(report["curve"]) == [{"step": int, "loss": NUMBER, "support_loss": NUMBER}] * 4
    assert "accuracy" not in (regression / "evaluation.json").read_text()
    assert form(report["references"]) == {"true function": {"loss": NUMBER}}


def test_evaluation_tells_its_protocol(logistic, regression):
    assert report_of(logistic)["protocol"] == {
        "split": "test",
        "num_tasks": 3,
        "ways": 2,
        "shots": 4,
        "queries": 3,
        "per_class": False,
        "inner_steps": 2,
        "batch_norm": "none",
        "seed": 0,
    }
    protocol = report_of(regression)["protocol"]
    assert (protocol["ways"], protocol["inner_steps"]) == (None, 3)


def test_steps_are_counted_from_before_adaptation_and_the_last_is_final(logistic):
    report = report_of(logistic)
    assert [point["step"] for point in report["curve"]] == [0, 1, 2]
    assert report["final"] == report["curve"][-1]


@pytest.mark.parametrize("name", ["logistic", "regression"])
def test_scores_of_each_task_average_to_the_evaluation(name, request):
    run = request.getfixturevalue(name)
    report = report_of(run)
    with (run / "tasks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["task", "inner_step", *TRAJECTORY_COLUMNS]
    assert len(rows) == report["protocol"]["num_tasks"] * len(report["curve"])
    keys = {"query_loss": "loss", "query_accuracy": "accuracy"} | {
        name: name for name in ("support_loss", "support_accuracy")
    }
    for point in report["curve"]:
        for column, key in keys.items():
            values = [float(row[column]) for row in rows if int(row["inner_step"]) == point["step"]]
            if key not in point:
                assert np.isnan(values).all()
                continue
            found = estimate(np.array(values))
            # Nine digits are written of each.
            assert point[key]["mean"] == pytest.approx(found.mean, rel=1e-7)
            assert point[key]["ci95_over_tasks"] == pytest.approx(found.ci95, rel=1e-6)


def test_splits_that_a_training_uses_are_those_of_its_parts():
    def splits(*overrides):
        return splits_of_training(load_recipe("logistic", overrides)[1])

    assert splits() == ("train", "validation", "test")
    assert splits("validation.every=null") == ("train", "test")
    assert splits("validation.every=null", "evaluation.split=train") == ("train",)
    assert splits("evaluation.split=validation") == ("train", "validation")


def test_finished_run_is_known_and_not_trained_again(logistic, tmp_path):
    result = finished_result(RunDirectory.open(logistic))
    assert result.to_json() == report_of(logistic)
    recipe = load_recipe("logistic", TINY)[1]
    assert finished_result(RunDirectory.create(tmp_path / "new", recipe, "logistic")) is None


@pytest.mark.parametrize("content", ["", "[]", '{"protocol": '])
def test_finished_run_whose_result_is_damaged_is_refused(tmp_path, content):
    run = train_tiny(tmp_path / "run")
    (run.path / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=r"evaluation\.json: expected a readable result"):
        finished_result(run)


def test_dry_run_tells_the_cost_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cost = dry_run(load_recipe("linear-regression", (*TINY, "inner.transform=kfo"))[1])
    assert cost.num_parameters == 10
    assert cost.num_transform_parameters > 0
    assert cost.seconds_per_iteration > 0
    assert cost.training_s == pytest.approx(2 * cost.seconds_per_iteration)
    assert cost.execution.threads == 1
    assert list(tmp_path.iterdir()) == []


def test_one_training_makes_its_objective_and_its_weights_once(tmp_path, monkeypatch):
    calls = {"inner_loop_for": 0, "initial_params": 0}

    def counted(name):
        function = getattr(training_experiment, name)

        def call(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(training_experiment, name, call)

    for name in calls:
        counted(name)
    words = ("validation={every: 1, tasks: 3}", "evaluation.steps=3", "inner.transform=kfo")
    train_tiny(tmp_path / "run", "linear-regression", *words)
    assert calls == {"inner_loop_for": 1, "initial_params": 1}


# Stopping early, diverging ---------------------------------------------------------------------------------


def test_run_that_stops_early_says_so_and_is_finished(tmp_path):
    words = ("validation={every: 1, tasks: 3, patience: 2}", "outer.iterations=50", "outer.lr=1e-30")
    run = train_tiny(tmp_path / "run", "linear-regression", *words)
    # With a rate of nothing, the first validation stays the best, and two more end it.
    assert run.manifest["status"] == "stopped early"
    assert run.manifest["iterations_done"] == 3
    assert run.read_metrics()[-1]["kind"] == "stop"
    assert finished_result(run).to_json() == report_of(run.path)


@pytest.mark.parametrize("lr", ["1e30", "1e12"])
def test_run_that_diverges_says_where_and_keeps_its_state(tmp_path, lr):
    with pytest.raises(NonFiniteError, match=r"iteration 1: .*inner\.lr is too high.*checkpoints"):
        train_tiny(tmp_path / "run", "linear-regression", f"inner.lr={lr}")
    run = RunDirectory.open(tmp_path / "run")
    assert run.manifest["status"] == "failed"
    assert "iteration 1" in run.manifest["reason"]
    assert load_checkpoint(run, "last")[1]["iteration"] == 0


def test_evaluation_that_overflows_is_written_as_json(tmp_path):
    run = train_tiny(tmp_path / "run", "linear-regression", "inner.lr=1e4", "inner.steps=1", "evaluation.steps=30")

    def refuse(name):
        raise AssertionError(name)

    report = json.loads((run.path / "evaluation.json").read_text(), parse_constant=refuse)
    assert report["final"]["loss"] == {"mean": None, "ci95_over_tasks": None}
    assert math.isfinite(report["curve"][0]["loss"]["mean"])


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


def cut_after(kind, iteration, error):
    """Return callbacks that raise at a record, and the iterations that runs have started from."""
    started = []

    def look(record):
        if isinstance(record, kind) and record.iteration == iteration and len(started) == 1:
            raise error

    return Progress(on_start=lambda _experiment, _run, first: started.append(first), on_record=look), started


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
    ("kind", "iteration", "checkpoint"),
    [
        (StepRecord, 2, 0),
        (ValidationRecord, 4, 0),
        (StepRecord, 5, 0),
        (StepRecord, 6, 5),
        (ValidationRecord, 8, 5),
        (StepRecord, 12, 10),
        (ValidationRecord, 12, 10),
    ],
)
def test_run_that_was_cut_goes_on_from_its_checkpoint_to_the_same_result(
    tmp_path, uncut, monkeypatch, kind, iteration, checkpoint
):
    progress, started = cut_after(kind, iteration, Power())
    with pytest.raises(Power):
        train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE, progress=progress)
    run = train_tiny(tmp_path / "cut", "linear-regression", *RESUMABLE, progress=progress)
    assert started == [0, checkpoint]
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


def test_run_is_not_resumed_on_other_data(tmp_path):
    names = [f"class{index}" for index in range(9)]
    path = noise_pack(tmp_path / "p.npz", names)
    words = (
        f"tasks.path={path}",
        "tasks.ways=2",
        "tasks.shots=1",
        "validation.every=null",
        "outer.iterations=3",
        "model.width=3",
        "model.depth=1",
        "outer.tasks=2",
        "evaluation.tasks=2",
        "evaluation.split=train",
    )
    recipe = load_recipe("folder", words)[1]
    run = RunDirectory.create(tmp_path / "run", recipe, "folder")

    def go_on(progress=None):
        return train_run(run, build(recipe, splits=splits_of_training(recipe)), argv=[], progress=progress)

    progress, _ = cut_after(StepRecord, 2, Interrupted("now"))
    with pytest.raises(Interrupted):
        go_on(progress)
    kept = run.read_metrics()
    noise_pack(path, names, seed=1)
    with pytest.raises(RunError, match=r"expected the data it was trained on .* got other data"):
        go_on()
    assert run.read_metrics() == kept
    noise_pack(path, names, seed=0)
    assert go_on().weights == "last, iteration 3"


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

    monkeypatch.setattr("mamlcli.engine.execution._outer_loss", refuse)
    with pytest.raises(MamlError) as caught:
        train_tiny(tmp_path / "run", "logistic", "inner.steps=3")
    text = str(caught.value)
    assert "execution.chunk=2, inner.steps=3, inner.memory=unrolled" in text
    assert "model.depth=1" in text
    assert "Set execution.chunk=1, then inner.memory=constant" in text
