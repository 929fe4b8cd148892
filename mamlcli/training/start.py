"""Starts a run, from the command line and from Python: a new one, one that is resumed, or one in another's place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import MamlError, RunError
from mamlcli.common.names import RUNS
from mamlcli.engine.sharing import ALONE, WorkerGroup
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory, check_free, remove_run
from mamlcli.runs.report import RunReport
from mamlcli.runs.search import newest_run_path, next_run_path
from mamlcli.training.events import check_event_log
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.placement import resolve_device
from mamlcli.training.planned import PlannedRun, Progress
from mamlcli.training.run import result_of, train_runs
from mamlcli.training.scoring import finished_result


@dataclass(frozen=True)
class Start:
    """What is to be trained, where, and what becomes of a run that is there.

    Attributes:
        name: of the recipe.
        recipe: resolved.
        path: the run's directory.
        is_resumed: the run that is there goes on; it must be one of this recipe.
        is_forced: the run that is there is deleted, once the new one can begin.
    """

    name: str
    recipe: Recipe
    path: Path
    is_resumed: bool = False
    is_forced: bool = False

    def finished(self) -> RunReport | None:
        """Check whether the run can begin before anything is built; return its result if it is done already.

        Raises:
            RunError: another run is there, or there is none to go on with, or it is of another recipe, or a model that
                ships with mamlcli.
            MamlError: what the recipe's logging needs is not installed.
        """
        if self.is_resumed:
            run = RunDirectory.open(self.path)
            run.check_writable()
            run.check_recipe(self.recipe)
            if (result := finished_result(run)) is not None:
                return result
        elif not self.is_forced:
            check_free(self.path)
        check_event_log(self.recipe.logging)
        return None

    def train(self, *, argv: list[str], progress: Progress, group: WorkerGroup = ALONE) -> RunReport:
        """Train the run to its end and score it; call `finished` first.

        Nothing on disk changes until everything is built.

        Args:
            argv: the command, for the manifest.
            progress: what is told on the way.
            group: workers that share the tasks; this is number 0.

        Raises:
            MamlError: as `build` and `train_runs`.
        """
        group.use_device(resolve_device(self.recipe.execution.device))
        experiment = build(self.recipe, splits=splits_of_training(self.recipe))
        if self.is_forced:
            remove_run(self.path)
        if self.is_resumed:
            run = RunDirectory.open(self.path)
        else:
            run = RunDirectory.create(self.path, self.recipe, self.name)
        [end] = train_runs([PlannedRun(run, experiment, argv, progress)], group=group)
        return result_of(end)


def default_path(name: str, *, is_resumed: bool) -> Path:
    """Return where a run of a recipe goes: `runs/<name>-<number>`, the next number, or the newest to go on with.

    Raises:
        RunError: there is none to go on with.
    """
    if not is_resumed:
        return next_run_path(RUNS, name)
    newest = newest_run_path(RUNS, name)
    if newest is None:
        next_step = f"Name it with --run-dir, or run: {command('train', name)}"
        raise RunError(f"{RUNS}/{name}-*", expected="a run to resume", got="none", next_step=next_step)
    return newest


def override_words(overrides: Iterable[str | Mapping[str, object]], *, where: str) -> list[str]:
    """Return overrides as words of a command line: {"inner.steps": 5} as "inner.steps=5"; words stay as they are.

    Args:
        overrides: words, or mappings of keys to values.
        where: the first word of messages.

    Raises:
        MamlError: something else, or a value that no recipe can have.
    """
    words: list[str] = []
    for override in overrides:
        if isinstance(override, str):
            words.append(override)
        elif isinstance(override, Mapping):
            words += [f"{key}={_as_yaml(value, where=f'{where}: {key}')}" for key, value in override.items()]
        else:
            expected = "overrides like 'inner.steps=5' or {'inner.steps': 5}"
            raise MamlError(where, expected=expected, got=repr(override))
    return words


def _as_yaml(value: object, *, where: str) -> str:
    """Return a value as JSON, which is YAML."""
    try:
        return json.dumps(str(value) if isinstance(value, Path) else value)
    except TypeError as error:
        expected = "a number, text, true or false, a list or None"
        raise MamlError(where, expected=expected, got=repr(value)) from error
