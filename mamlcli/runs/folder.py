"""Reads and writes all files of a run but its checkpoints; no file is ever half-written.

recipe.yaml                      the resolved recipe
manifest.json                    argv, versions, device, data, status, wall time, peak memory
metrics.jsonl                    one record a line: steps and validations
checkpoints/last.safetensors     the whole training state, read and written by training/checkpoints.py
checkpoints/best.safetensors     the meta-parameters of the best meta-validation
evaluation.json                  the result: a `RunReport`
tasks.csv                        the scores of every task at every inner step
curve.png, curve.svg             the adaptation curve
lock                             held by the process that works on the run

A trained model that ships with the package has less in its folder, and is not written to: see `models`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.commands import command
from mamlcli.common.errors import RunError
from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.leftovers import remove_leftovers
from mamlcli.recipe.files import load_recipe, recipe_to_yaml
from mamlcli.recipe.places import data_path, path_of_run, with_whole_path
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.lock import held_lock, is_lock_held
from mamlcli.runs.manifest import Manifest
from mamlcli.runs.metrics import MetricsRecord, last_record_in, metrics_line, records_in, records_until
from mamlcli.runs.models import is_model, label_of, run_folder
from mamlcli.runs.own_files import check_no_links
from mamlcli.runs.place import no_run_error, place_error, place_of_new_run
from mamlcli.runs.report import RunReport
from mamlcli.runs.scores_table import FINAL_SCORES, final_scores_in, scores_in, scores_text
from mamlcli.runs.search import CHECKPOINTS, MANIFEST, RECIPE
from mamlcli.runs.suggestions import adapt_again

_REPORT, _SCORES, _METRICS = "evaluation.json", "tasks.csv", "metrics.jsonl"


_TAIL_BYTES = 1 << 16  # more than the last record of the metrics


class RunDirectory:
    """Reads and writes the files in one run's folder. Make it with `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics: IO[str] | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        recipe: Recipe,
        name: str,
        notes: Mapping[str, object] = MappingProxyType({}),
        *,
        is_forced: bool = False,
    ) -> RunDirectory:
        """Make a new run directory at a path that does not exist, is an empty folder, or holds a run cut at its start.

        The recipe's reference stays behind: it is what the recipe promises, not what the run does. The path of its
        data is kept absolute, and as it was typed in the manifest.

        Args:
            path: the folder.
            recipe: resolved.
            name: of the recipe.
            notes: further keys of the manifest.
            is_forced: whether a run that is there is deleted first.

        Raises:
            RunError: something is there, or the folder cannot be written; TakenError: another process was quicker.
        """
        typed = {} if data_path(recipe) is None else {"typed_path": data_path(recipe), "typed_in": os.getcwd()}
        run = cls(path)
        try:
            with place_of_new_run(path, is_forced=is_forced):
                (path / CHECKPOINTS).mkdir(exist_ok=True)
                run.write_recipe(recipe)
                run.update_manifest({"recipe_name": name, "status": "created", **typed, **notes})
        except (OSError, ValueError) as error:
            raise place_error(path, error) from error
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run directory, or a trained model that ships with the package.

        Args:
            path: the folder, the name of a run below runs/, or the name of a model.

        Raises:
            RunError: there is none.
        """
        folder = run_folder(path_of_run(path))
        if not is_run(folder):
            raise no_run_error(path, folder)
        return cls(folder)

    @property
    def label(self) -> str:
        """What messages and results call the run: its folder, or the name of a shipped model."""
        return label_of(self.path)

    def check_writable(self) -> None:
        """Raise RunError for a trained model that ships with the package."""
        if is_model(self.path):
            raise RunError(
                self.label,
                expected="a run that can be written to",
                got="a trained model that ships with mamlcli",
                why="It is for reading, and holds the learned weights alone: no training can go on from there",
                next_step=f"Run: {command('train', self.name)}",
            )

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe of the run."""
        return load_recipe(str(self.recipe_path))[1]

    @property
    def recipe_path(self) -> Path:
        """The file of the resolved recipe, which can be trained again."""
        return self.path / RECIPE

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the resolved recipe of the run, the path of its data absolute."""
        resolved = with_whole_path(recipe.without_reference())
        atomic_write(self.recipe_path, recipe_to_yaml(resolved).encode())

    @property
    def manifest(self) -> Manifest:
        """What the run notes of itself, as it is on disk; RunError if it cannot be read."""
        next_step = "Train again with --force, or name another run"
        return Manifest(self._read_json(MANIFEST, expected="a readable manifest", next_step=next_step))

    @property
    def name(self) -> str:
        """Name of the run's recipe; of a run that does not note it, the name of its folder."""
        return self.manifest.recipe_name or self.path.name

    def update_manifest(self, changes: Mapping[str, object]) -> None:
        """Change some keys of the manifest."""
        current = self.manifest if (self.path / MANIFEST).is_file() else {}
        self.write_json(MANIFEST, {**current, **changes})

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file of the run."""
        atomic_write(self.path / name, json_text(value).encode())

    def _read_json(self, name: str, *, expected: str, next_step: str) -> dict[str, object]:
        """Return the JSON object in a file of the run; a RunError says in `got` what is wrong with the file."""
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(value, dict):
                raise TypeError(f"no JSON object but a {type(value).__name__}")
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise RunError(str(path), expected=expected, got=_reason(error, path), next_step=next_step) from error
        return value

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the lock is released when the process ends, however it ends.

        What killed processes left in the run is taken away.

        Raises:
            TakenError: another process holds it; RunError: it is not to be written to, or a link stands in it.
        """
        self.check_writable()
        with held_lock(self.path):
            check_no_links(self.path)
            for folder in (self.path, self.path / CHECKPOINTS):
                remove_leftovers(folder, min_age_s=0)
            yield

    def is_held(self) -> bool | None:
        """Return whether a process works on the run; None if that cannot be known."""
        return is_lock_held(self.path)

    # Metrics -----------------------------------------------------------------------------------------------

    def append_metrics(self, record: Mapping[str, object]) -> None:
        """Append one record to the metrics; other processes can read it when this returns."""
        if self._metrics is None:
            self._metrics = (self.path / _METRICS).open("a", encoding="utf-8")
        self._metrics.write(metrics_line(record))
        self._metrics.flush()

    def read_metrics(self) -> list[MetricsRecord]:
        """Return the whole records of the metrics, without a line that a crash has cut.

        Raises:
            RunError: the file cannot be read.
        """
        path = self.path / _METRICS
        if not path.is_file():
            return []
        try:
            return records_in(path.read_bytes())
        except OSError as error:
            raise RunError(str(path), expected="a file that can be read", got=error.strerror) from error

    def last_record(self) -> MetricsRecord:
        """Return the last whole record of the metrics without reading all of them; empty if there is none."""
        path = self.path / _METRICS
        try:
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                return last_record_in(stream.read())
        except OSError:
            return MetricsRecord()

    def rewind_metrics(self, iteration: int, last_validated: int) -> None:
        """Drop the records that training from a checkpoint will write again.

        Args:
            iteration: meta-iterations done at the checkpoint.
            last_validated: meta-iterations done at its last validation.
        """
        remaining = records_until(self.read_metrics(), iteration=iteration, last_validated=last_validated)
        atomic_write(self.path / _METRICS, "".join(map(metrics_line, remaining)).encode())

    def close(self) -> None:
        """Close the file that metrics are appended to."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    # The result --------------------------------------------------------------------------------------------

    @property
    def curve_path(self) -> Path:
        """The figure of the adaptation curve as PNG; the SVG is beside it."""
        return self.path / "curve.png"

    @property
    def has_report(self) -> bool:
        """Whether the run was scored; its report may be damaged."""
        return (self.path / _REPORT).is_file()

    def read_report(self) -> RunReport:
        """Return the result of the run.

        Raises:
            RunError: there is none, or none that can be read.
        """
        expected, next_step = "a readable result", f"Run: {adapt_again(self.path)}"
        value = self._read_json(_REPORT, expected=expected, next_step=next_step)
        try:
            return RunReport.from_json(value)
        except ValueError as error:
            where = str(self.path / _REPORT)
            raise RunError(where, expected=expected, got=str(error), next_step=next_step) from error

    def remove_results(self) -> None:
        """Delete the result of the run, its report first: without it the rest is not taken for a result."""
        for name in (_REPORT, _SCORES, self.curve_path.name, self.curve_path.with_suffix(".svg").name):
            (self.path / name).unlink(missing_ok=True)

    def write_report(self, report: RunReport) -> None:
        """Write the result of the run."""
        self.write_json(_REPORT, report.to_json())

    def read_scores(self) -> NDArray[np.float64]:
        """Return the scores of every task: [num_tasks, num_inner_steps + 1, 4], columns as `SCORE_COLUMNS`.

        A shipped model has those after the last inner step alone: [num_tasks, 1, 4].

        Raises:
            RunError: the file is not there, or not whole.
        """
        path = self.path / _SCORES
        try:
            if is_model(self.path):
                return final_scores_in((self.path / FINAL_SCORES).read_bytes())
            with path.open(newline="", encoding="utf-8") as stream:
                return scores_in(stream)
        except (OSError, ValueError, OverflowError) as error:
            expected, where = "the scores of a run's tasks", str(path)
            next_step = f"Run: {adapt_again(self.path)}"
            raise RunError(where, expected=expected, got=str(error), next_step=next_step) from error

    def write_scores(self, scores: NDArray[np.float64]) -> None:
        """Write the scores of every task, nine digits each.

        Args:
            scores: [num_tasks, num_inner_steps + 1, 4], columns as `SCORE_COLUMNS`.
        """
        atomic_write(self.path / _SCORES, scores_text(scores).encode())


def _reason(error: Exception, path: Path) -> str:
    """Return why a JSON file could not be read, in a few words."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    if isinstance(error, TypeError):
        return str(error)
    return f"not JSON ({error})" if path.stat().st_size else "an empty file"


def is_run(path: Path) -> bool:
    """Return whether a folder is a run directory, with a recipe and a manifest."""
    return os.path.isfile(path / RECIPE) and os.path.isfile(path / MANIFEST)
