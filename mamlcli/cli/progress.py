"""A training run shows its progress on stderr: by a bar on a terminal, by a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mamlcli.cli import console
from mamlcli.engine.outer_loop import Record, StepRecord, StopRecord, ValidationRecord
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.going_on import said_on_resume
from mamlcli.runs.lock import NO_LOCKS
from mamlcli.training.data_notes import data_notes
from mamlcli.training.experiment import Experiment
from mamlcli.training.from_run import start_words
from mamlcli.training.planned import Progress as RunProgress

_LINES_OFF_TERMINAL = 10


class ProgressDisplay:
    """Shows how a run starts, trains and is scored. Use as a context manager.

    Args:
        recipe: of the run.
        is_resumed: whether the run was begun before.
    """

    def __init__(self, recipe: Recipe, is_resumed: bool) -> None:
        self._recipe = recipe
        self._is_resumed = is_resumed
        self._training: TrainingProgress | None = None

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_training()

    def callbacks(self) -> RunProgress:
        """Return what the run calls as it goes on."""
        return RunProgress(
            on_start=self._show_start,
            on_record=self._show_record,
            on_evaluation=self._show_evaluation,
            on_warning=console.warn,
        )

    def _show_start(self, experiment: Experiment, run: RunDirectory, iteration: int) -> None:
        manifest = run.manifest
        if run.is_held() is None:
            console.warn(f"{run.path}: {NO_LOCKS}")
        number = manifest.num_workers
        workers = f", {number} workers" if number > 1 else ""
        console.note(
            f"{run.name} on {manifest['device']}{workers}: {manifest['num_parameters']:,} parameters, run in {run.path}"
        )
        if not iteration and manifest.started_from.get("taken"):
            console.note(f"starting from {start_words(manifest.started_from)}")
        if self._is_resumed:
            begin = f"from iteration {iteration}" if iteration else "from the start: the run has no checkpoint yet"
            console.note(f"resuming {begin}")
            for words in said_on_resume(manifest, iteration):
                console.warn(words)
        for note in data_notes(self._recipe, manifest.get("data") or {}):
            console.note(note)
        self._training = TrainingProgress(self._recipe.outer.iterations, iteration).__enter__()

    def _show_record(self, record: Record) -> None:
        if self._training is not None:
            self._training.show(record)

    def _show_evaluation(self, num_tasks: int) -> None:
        self._end_training()
        console.note(f"adapting to {num_tasks} {self._recipe.evaluation.split} tasks")

    def _end_training(self) -> None:
        if self._training is not None:
            self._training.__exit__(None, None, None)
            self._training = None


class TrainingProgress:
    """Shows engine records as they come. Use as a context manager.

    Args:
        num_iterations: of the whole training.
        start: iterations already done (a resumed run).
    """

    def __init__(self, num_iterations: int, start: int) -> None:
        self._num = num_iterations
        self._start = start
        self._began = time.monotonic()
        self._loss: float | None = None
        self._accuracy: float | None = None
        self._bar = Progress(
            TextColumn("meta-training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[live]}"),
            console=console.stderr_console(),
            disable=not console.stderr_console().is_terminal,
        )
        self._task = self._bar.add_task("", total=num_iterations, completed=start, rate="", live="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, record: Record) -> None:
        """Show one step, validation or early stop."""
        if isinstance(record, StepRecord):
            self._show_step(record)
        elif isinstance(record, ValidationRecord):
            best = ", best so far" if record.is_best else ""
            console.note(f"iteration {record.iteration}: meta-validation {_scores(record.loss, record.accuracy)}{best}")
        elif isinstance(record, StopRecord):
            console.note(f"iteration {record.iteration}: stopped early, no new best in {record.patience} validations")

    def _show_step(self, record: StepRecord) -> None:
        # A meta-batch is a handful of tasks: its loss jumps, a running mean can be read.
        self._loss = _running(self._loss, record.outer_loss)
        if record.accuracy is not None:
            self._accuracy = _running(self._accuracy, record.accuracy)
        live = _scores(self._loss, self._accuracy)
        rate = (record.iteration - self._start) / max(time.monotonic() - self._began, 1e-9)
        self._bar.update(self._task, completed=record.iteration, rate=f"{rate:.1f}/s", live=live)
        every = max(self._num // _LINES_OFF_TERMINAL, 1)
        if self._bar.disable and (record.iteration % every == 0 or record.iteration == self._num):
            console.note(f"iteration {record.iteration}/{self._num}: {live}, {rate:.1f} iterations/s")


def _running(old: float | None, new: float) -> float:
    return new if old is None else 0.95 * old + 0.05 * new


def _scores(loss: float | None, accuracy: float | None) -> str:
    text = "" if loss is None else f"loss {loss:.3f}"
    return text if accuracy is None else f"{text} accuracy {100 * accuracy:.1f} %"
