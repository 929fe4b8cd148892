"""Compares runs from Python, as `mamlcli runs compare` does."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mamlcli.common.files import expanded
from mamlcli.common.names import RUNS
from mamlcli.runs.catalogue import resolve_run, runs_at
from mamlcli.runs.comparison import RunComparison, compare_runs


class HasPath(Protocol):
    """What has a run's folder, as what `mamlcli.train` returns."""

    @property
    def path(self) -> Path:
        """The folder."""
        ...


def compare(*runs: HasPath | str | Path, unpaired: bool = False) -> RunComparison:
    """Compare finished runs with the first one, task by task, on the tasks that all were scored on.

    Args:
        runs: two or more runs, their directories, or the folder of a study, which stands for its cells.
        unpaired: also compare runs that were scored on other tasks, as independent samples.

    Returns:
        `comparisons` has a row for each other run and metric: a, b (the first run), metric and difference (mean, ci95
        over tasks); `recipe_differences` has the keys in which the runs differ. `to_json()` is the content of
        `mamlcli runs compare --json`.

    Raises:
        RunError: fewer than two runs, one that is not finished, or one that was scored on other tasks.
    """
    paths = [expanded(run if isinstance(run, str | Path) else run.path) for run in runs]
    entries = [entry for path in paths for entry in runs_at(resolve_run(str(path), RUNS))]
    return compare_runs(entries, allow_unpaired=unpaired)
