"""The trackers of one run are told of it here; one that fails is off from then on, with one warning, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import Interrupted
from mamlcli.common.files import json_text
from mamlcli.common.plugins import TRACKERS, installed, named_trackers, tracker_names
from mamlcli.common.words import first_line
from mamlcli.recipe.changes import flat_recipe
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.own_files import CELLS, TRACKER_FILES
from mamlcli.runs.report import RunReport
from mamlcli.runs.search import STUDY_MARK
from mamlcli.training.trackers.csv_files import CsvFiles
from mamlcli.training.trackers.event_files import EventFiles
from mamlcli.training.trackers.interface import TrackedRun, Tracker, Value, values_of
from mamlcli.training.trackers.process import Patience, ProcessTracker

# Of a score in a report, its name in trackers.
_SCORES = {
    "loss": "query_loss",
    "accuracy": "query_accuracy",
    "support_loss": "support_loss",
    "support_accuracy": "support_accuracy",
}

# How a package that is missing is installed.
_EXTRAS = ("tensorboard", "mlflow")


class ToldTrackers:
    """The trackers of a run that are on.

    Args:
        run: its folder, with the metrics rewound.
        recipe: resolved.
        iteration: meta-iterations done at the checkpoint that training goes on from, 0 for none.
        warn: takes the warning of a tracker that is off from then on.
        patience: how long the end waits for trackers; runs that are trained together share it.
    """

    def __init__(
        self,
        run: RunDirectory,
        recipe: Recipe,
        iteration: int,
        warn: Callable[[str], None],
        patience: Patience | None = None,
    ) -> None:
        self._run = run
        self._patience = patience or Patience()
        self._warn = warn
        self._on: dict[str, Tracker] = {}
        for name in named_trackers(recipe.logging):
            self._begin(name, recipe, iteration)

    def _begin(self, name: str, recipe: Recipe, iteration: int) -> None:
        with self._off_at_failure(name):
            if name not in tracker_names() or len(installed(TRACKERS).get(name, ())) > 1:
                raise LookupError(f"expected one of {', '.join(tracker_names())}, each of one installed package")
            tracked = tracked_run(self._run, recipe, iteration, name)
            tracked.folder.mkdir(parents=True, exist_ok=True)
            self._on[name] = made = tracker(name, self._patience)
            made.begin(tracked)

    def take(self, line: Mapping[str, object]) -> None:
        """Tell of a record of metrics.jsonl: a step or a validation."""
        if not self._on or line["kind"] not in ("step", "validation"):
            return
        step, values = int(str(line["iteration"])), values_of(line)
        for name, tracker in list(self._on.items()):
            with self._off_at_failure(name):
                (tracker.record if line["kind"] == "step" else tracker.validation)(step, values)

    def take_report(self, report: RunReport, figures: Mapping[str, Path]) -> None:
        """Tell of the final scores, and of figures, which are PNG files by their names."""
        for name, tracker in list(self._on.items()):
            with self._off_at_failure(name):
                tracker.scores(_curve(report))
                for figure, path in figures.items():
                    tracker.figure(figure, path)

    @contextmanager
    def until_the_end(self, is_stopped: Callable[[], bool]) -> Iterator[None]:
        """Tell at the end of the block how the run ended.

        Args:
            is_stopped: asked at the end whether training stopped early.
        """
        status = "failed"
        try:
            yield
            status = "stopped early" if is_stopped() else "done"
        except (Interrupted, KeyboardInterrupt):
            status = "interrupted"
            raise
        finally:
            for name, tracker in list(self._on.items()):
                with self._off_at_failure(name):
                    tracker.end(status)

    @contextmanager
    def _off_at_failure(self, name: str) -> Iterator[None]:
        """Let a tracker whose call fails in the block be off, with a warning."""
        try:
            yield
        except Exception as error:
            failed = self._on.pop(name, None)
            with suppress(Exception):  # it may not have begun
                if isinstance(failed, ProcessTracker | EventFiles):
                    failed.close()
            with suppress(OSError):  # there is something in it
                for folder in (tracker_folder(self._run.path, name), self._run.path / TRACKER_FILES):
                    folder.rmdir()
            self._warn(_warning(name, error))


def tracker_folder(run: Path, name: str) -> Path:
    """Return the folder in a run's folder that a tracker has for itself."""
    return run / TRACKER_FILES / name


def tracker(name: str, patience: Patience | None = None) -> Tracker:
    """Return a new tracker; one that is not ours, or that may wait for a server, in a process of its own."""
    own: dict[str, type[Tracker]] = {"csv": CsvFiles, "tensorboard": EventFiles}
    return own[name]() if name in own else ProcessTracker(name, patience)


def tracked_run(run: RunDirectory, recipe: Recipe, iteration: int, name: str) -> TrackedRun:
    """Return what a tracker is told of a run."""
    path = run.path.absolute()
    study = path.parent.parent
    is_cell = path.parent.name == CELLS and (study / STUDY_MARK).is_file()
    settings = {key: _setting(value) for key, value in flat_recipe(recipe).items()}
    num_bytes = run.metrics_path.stat().st_size if run.metrics_path.is_file() else 0
    folder = tracker_folder(path, name)
    return TrackedRun(
        path.name, run.name, path, folder, study.name if is_cell else None, settings, iteration, num_bytes
    )


def _setting(value: object) -> Value:
    return value if value is None or isinstance(value, str | int | float) else json_text(value).strip()


def _curve(report: RunReport) -> Sequence[Mapping[str, float]]:
    curve = []
    for point in report.curve:
        scores = {name: point.scores.of(metric) for metric, name in _SCORES.items()}
        means = {name: score.mean for name, score in scores.items() if score is not None and score.mean is not None}
        curve.append({"step": float(point.step), **means})
    return curve


def _warning(name: str, error: Exception) -> str:
    is_missing = isinstance(error, ImportError) or "ModuleNotFoundError" in str(error)
    remedy = f" To have it: pip install 'mamlcli[{name}]'" if is_missing and name in _EXTRAS else ""
    doctor = "" if remedy else f" {command('doctor')} says what is installed."
    words = first_line(error) or type(error).__name__
    return f"logging={name} is off from here on, the run goes on: {words}.{remedy or doctor}"
