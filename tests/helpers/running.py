"""Runs and packs that tests make for themselves, small enough to take no time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

import mamlcli
from mamlcli.common.errors import Interrupted
from mamlcli.engine.outer_loop import Record, StepRecord
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import RunReport
from mamlcli.training.checkpoints import load_checkpoint
from mamlcli.training.experiment import Experiment, build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.planned import PlannedRun, Progress
from mamlcli.training.run import result_of, train_runs
from tests.helpers.image_files import noise

# Overrides that make a synthetic recipe take a moment.
TINY = (
    "outer.iterations=2",
    "outer.tasks=2",
    "evaluation.tasks=3",
    "validation.every=null",
    "tasks.shots=4",
    "tasks.queries=3",
    "execution.threads=1",
    "execution.device=cpu",
)

# Overrides that bring an image recipe down to a moment, whatever its data.
TINY_IMAGES = (
    "outer.iterations=2",
    "outer.tasks=2",
    "evaluation.tasks=2",
    "validation.every=null",
    "model.depth=1",
    "model.width=3",
    "inner.steps=1",
    "tasks.queries=2",
    "execution.threads=1",
    "execution.device=cpu",
)


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The error lines, without the word."""
        lines = self.err.splitlines()
        return [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]


class Program:
    """The program as a process of its own. Use as a context manager, which ends what is still running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start `mamlcli WORDS...`, its output in pipes."""
        command = [sys.executable, "-m", "mamlcli", *map(str, words)]
        environment = os.environ | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._started.append(process)
        return process

    def __call__(self, *words: object) -> Finished:
        """Run `mamlcli WORDS...` to its end."""
        return end_of(self.start(*words))


def end_of(process: subprocess.Popen[str], *, timeout_s: float = 120.0) -> Finished:
    out, err = process.communicate(timeout=timeout_s)
    return Finished(process.returncode, out, err)


def stop_when(process: subprocess.Popen[str], is_time, number: int) -> None:
    """Send a signal to a process at a moment when `is_time()` holds: it is frozen while the question is asked."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if is_time():
            process.send_signal(signal.SIGSTOP)
            holds = is_time()
            process.send_signal(number if holds else signal.SIGCONT)
            if holds:
                process.send_signal(signal.SIGCONT)
                return
        time.sleep(0.002)
    raise AssertionError(f"the moment never came; the process ended with {process.poll()}")


def iterations_done(run: Path) -> int:
    """Return the meta-iterations that a run's metrics tell of."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    whole = [json.loads(line) for line in lines if line.endswith("}")]
    return max((record["iteration"] for record in whole), default=0)


def train_run(run: RunDirectory, experiment, *, argv, progress=None) -> RunReport:
    """Train one run; what it ended by is raised."""
    [end] = train_runs([PlannedRun(run, experiment, argv, progress or Progress())])
    return result_of(end)


def train_tiny(path: Path, recipe: str = "linear-regression", *overrides: str, progress=None) -> RunDirectory:
    """Train a shipped recipe in this process in a new run directory, or go on with the one that is there."""
    name, loaded = load_recipe(recipe, (*TINY, *overrides))
    run = RunDirectory.open(path) if path.exists() else RunDirectory.create(path, loaded, name)
    experiment = build(loaded, splits=splits_of_training(loaded))
    train_run(run, experiment, argv=["mamlcli", "train"], progress=progress)
    return run


def results(run: Path) -> tuple[dict, list, dict]:
    """Return all that a run computed, without times and places: checkpoints, metrics and evaluation."""
    tensors: dict[str, Tensor] = {}
    for which in ("last", "best"):
        file = run / "checkpoints" / f"{which}.safetensors"
        if file.is_file():
            tensors |= {f"{which}/{name}": value for name, value in load_file(file).items()}
    state = load_checkpoint(RunDirectory(run), "last")
    assert state is not None
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in metrics:
        del record["elapsed_s"]
    evaluation = json.loads((run / "evaluation.json").read_text())
    del evaluation["run"]
    return tensors, [*metrics, state[1]], evaluation


def assert_same_results(first: Path, second: Path) -> None:
    """Require two runs to have computed the same, bit for bit."""
    (tensors, metrics, evaluation), (other_tensors, other_metrics, other_evaluation) = (
        results(first),
        results(second),
    )
    assert metrics == other_metrics
    assert evaluation == other_evaluation
    assert list(tensors) == list(other_tensors)
    for name, value in tensors.items():
        assert value.numpy().tobytes() == other_tensors[name].numpy().tobytes(), name


def noise_pack(path: Path, names, *, num_images: int = 6, shape=(8, 8, 3), seed: int = 0, **source: object) -> Path:
    """Write a pack of noise with these classes, uncompressed, which is quick."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.arange(len(names)), num_images)
    images = noise(len(labels), *shape, seed=seed)
    np.savez(path, images=images, labels=labels, class_names=np.array(list(names)), source=np.array(json.dumps(source)))
    return path


def report_of(run: Path) -> dict:
    """Return the content of evaluation.json."""
    report: dict = json.loads((run / "evaluation.json").read_text())
    return report


def cut_after(kind, iteration, error):
    """Return callbacks that raise at a record, and the iterations that runs have started from."""
    started = []

    def look(record):
        if isinstance(record, kind) and record.iteration == iteration and len(started) == 1:
            raise error

    return Progress(on_start=lambda _experiment, _run, first: started.append(first), on_record=look), started


def built(recipe: str, *overrides: str, splits: tuple[str, ...] = ("train",)) -> Experiment:
    """Build a shipped recipe, brought down to a moment."""
    tiny = TINY if recipe in ("linear-regression", "logistic", "sinusoid") else TINY_IMAGES
    return build(load_recipe(recipe, (*tiny, *overrides))[1], splits=splits)


def stop_at(iteration: int) -> Progress:
    """Return a progress that interrupts a training after a meta-iteration."""

    def look(record: Record) -> None:
        if isinstance(record, StepRecord) and record.iteration == iteration:
            raise Interrupted("now")

    return Progress(on_record=look)
