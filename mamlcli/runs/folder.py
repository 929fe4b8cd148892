"""Reads and writes all files of a run but its checkpoints; no file is ever half-written.

recipe.yaml                      the resolved recipe
manifest.json                    argv, versions, device, data, status, wall time, peak memory
metrics.jsonl                    one record a line: steps and validations
checkpoints/last.safetensors     the whole training state, read and written by training/checkpoints.py
checkpoints/best.safetensors     the meta-parameters of the best meta-validation
checkpoints/*-before.safetensors the one before each of these
evaluation.json                  the result: a `RunReport`
tasks.csv                        the scores of every task at every inner step
curve.png, curve.svg             the adaptation curve
lock                             held by the process that works on the run

A trained model that ships with the package has less in its folder, and is not written to: see `models`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.bounded import open_regular
from mamlcli.common.commands import command
from mamlcli.common.disk import naming
from mamlcli.common.errors import RunError
from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.json_reading import file_bytes, read_as, reason
from mamlcli.common.leftovers import remove_leftovers
from mamlcli.recipe.files import load_recipe, recipe_to_yaml
from mamlcli.recipe.places import data_path, path_of_run, with_whole_path
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.lock import held_lock, is_lock_held
from mamlcli.runs.manifest import Manifest
from mamlcli.runs.metrics import MetricsRecord, last_record, metrics_line, read_records, unreadable
from mamlcli.runs.metrics_check import MetricsMark, noticed_in, rewound
from mamlcli.runs.models import is_model, label_of, run_folder
from mamlcli.runs.own_files import check_no_links
from mamlcli.runs.place import no_run_error, place_error, place_of_new_run
from mamlcli.runs.recorded import recipe_note
from mamlcli.runs.report import RunReport
from mamlcli.runs.scores_table import FINAL_SCORES, final_scores_in, scores_in, scores_text
from mamlcli.runs.search import CHECKPOINTS, MANIFEST, RECIPE, is_run
from mamlcli.runs.suggestions import adapt_again

_REPORT, _SCORES, _METRICS = "evaluation.json", "tasks.csv", "metrics.jsonl"


class RunDirectory:
    """Reads and writes the files in one run's folder. Make it with `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics: IO[str] | None = None
        self._mark: MetricsMark | None = None

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
                noted = run.write_recipe(recipe)
                run.update_manifest({"recipe_name": name, "status": "created", **noted, **typed, **notes})
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

    def write_recipe(self, recipe: Recipe) -> dict[str, object]:
        """Write the resolved recipe of the run, the path of its data absolute; return the manifest's note of it."""
        resolved = with_whole_path(recipe.without_reference())
        content = recipe_to_yaml(resolved).encode()
        atomic_write(self.recipe_path, content)
        return recipe_note(resolved, content)

    def recipe_note(self) -> dict[str, object]:
        """Return the manifest's note of recipe.yaml as it is now."""
        return recipe_note(self.recipe, self.recipe_path.read_bytes())

    @property
    def manifest(self) -> Manifest:
        """What the run notes of itself, as it is on disk; RunError if it cannot be read."""
        next_step = "Restore the file, train again with --force, or name another run"
        return read_as(self.path / MANIFEST, Manifest, expected="a readable manifest", next_step=next_step)

    @property
    def name(self) -> str:
        """Name of the run's recipe; of a run that does not note it, the name of its folder."""
        return self.manifest.recipe_name or self.path.name

    def update_manifest(self, changes: Mapping[str, object]) -> None:
        """Change some keys of the manifest."""
        current = self.manifest if (self.path / MANIFEST).is_file() else {}
        mark = {} if self._mark is None else {"metrics": self._mark.to_json()}
        self.write_json(MANIFEST, {**current, **mark, **changes})

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file of the run."""
        atomic_write(self.path / name, json_text(value).encode())

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
        with naming(self.path / _METRICS):
            if self._metrics is None:
                self._metrics = (self.path / _METRICS).open("a", encoding="utf-8")
            line = metrics_line(record)
            self._metrics.write(line)
            self._metrics.flush()
        if self._mark is not None:
            self._mark.add(line.encode())

    def sync_metrics(self) -> None:
        """Bring the metrics to the disk, so that a checkpoint that follows them is never ahead of them."""
        if self._metrics is not None:
            os.fsync(self._metrics.fileno())

    def note_metrics(self) -> None:
        """Note in the manifest how far the metrics are, so that lines that are lost or changed later are noticed."""
        self.update_manifest({})

    def read_metrics(self) -> Iterator[MetricsRecord]:
        """Return the whole records of the metrics, without lines that hold none, such as one that a crash has cut.

        Raises:
            RunError: the file cannot be read.
        """
        return read_records(self.metrics_path)

    def last_record(self) -> MetricsRecord:
        """Return the last whole record of the metrics without reading all of them; empty if there is none."""
        return last_record(self.metrics_path)

    def rewind_metrics(self, iteration: int, last_validated: int) -> None:
        """Drop the records that training from a checkpoint writes again; note what was lost before. As `rewound`.

        Args:
            iteration: meta-iterations done at the checkpoint.
            last_validated: meta-iterations done at its last validation.

        Raises:
            RunError: the file cannot be read.
        """
        manifest, path = self.manifest, self.metrics_path
        changed = noticed_in(path, manifest.metrics_mark, iteration)
        if manifest.metrics_mark is not None:
            self.update_manifest({"metrics": None})  # what is dropped now is not lost
        try:
            self._mark, count = rewound(path, iteration=iteration, last_validated=last_validated)
        except ValueError as error:
            raise unreadable(path, error) from error
        found = [f"{_METRICS}, up to iteration {iteration}: {words}" for words in count.words() or changed]
        if found or iteration:
            self.update_manifest({"noticed": [*manifest.noticed, *found]})

    def close(self) -> None:
        """Close the file that metrics are appended to."""
        if self._metrics is not None:
            # Every record was written when it was appended; a part of one that could not be is tried once more here.
            with suppress(OSError):
                self._metrics.close()
            self._metrics = None

    @property
    def metrics_path(self) -> Path:
        """The file of the metrics."""
        return self.path / _METRICS

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
        return read_as(self.path / _REPORT, RunReport.from_json, expected=expected, next_step=next_step)

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
                return final_scores_in(file_bytes(self.path / FINAL_SCORES))
            with open_regular(path) as stream, io.TextIOWrapper(stream, encoding="utf-8") as lines:
                return scores_in(lines)
        except (OSError, ValueError, OverflowError) as error:
            expected, where = "the scores of a run's tasks", str(path)
            next_step = f"Run: {adapt_again(self.path)}"
            raise RunError(where, expected=expected, got=reason(error), next_step=next_step) from error

    def write_scores(self, scores: NDArray[np.float64]) -> None:
        """Write the scores of every task, nine digits each.

        Args:
            scores: [num_tasks, num_inner_steps + 1, 4], columns as `SCORE_COLUMNS`.
        """
        atomic_write(self.path / _SCORES, scores_text(scores).encode())
