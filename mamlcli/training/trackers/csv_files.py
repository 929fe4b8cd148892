"""The tracker `csv` writes tables into the run's folder, trackers/csv: settings, steps, validation, scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mamlcli.common.files import atomic_write
from mamlcli.training.trackers.interface import TrackedRun, Tracker

# The columns of the tables that grow; a value that a run has not, such as the accuracy of regression, is left empty.
COLUMNS = {
    "step": ("step", "outer_loss", "accuracy", "grad_norm", "lr"),
    "validation": ("step", "loss", "accuracy"),
}
FILES = {"step": "steps.csv", "validation": "validation.csv"}
SCORES = ("step", "query_loss", "query_accuracy", "support_loss", "support_accuracy")


class CsvFiles(Tracker):
    """Writes every record as a line that is in its file when the call returns; a resumed run's tables are rewound."""

    def begin(self, run: TrackedRun) -> None:
        self._folder = run.folder
        settings = [{"key": key, "value": value} for key, value in run.settings.items()]
        _write(run.folder / "settings.csv", ("key", "value"), settings)
        (run.folder / "scores.csv").unlink(missing_ok=True)  # of the run as it was before it went on
        for kind, name in FILES.items():
            past = ({"step": step, **values} for of_kind, step, values in run.past() if of_kind == kind)
            _write(run.folder / name, COLUMNS[kind], past)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self._append("step", {"step": step, **values})

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        self._append("validation", {"step": step, **values})

    def _append(self, kind: str, row: Mapping[str, float]) -> None:
        with (self._folder / FILES[kind]).open("a", newline="", encoding="utf-8") as file:
            file.write(_lines(COLUMNS[kind], [row]))

    def scores(self, curve: Sequence[Mapping[str, float]]) -> None:
        _write(self._folder / "scores.csv", SCORES, curve)


def _lines(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writerows(rows)
    return text.getvalue()


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    atomic_write(path, (",".join(columns) + "\n" + _lines(columns, rows)).encode())
