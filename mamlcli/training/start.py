"""Starts a run, from the command line and from Python: a new one, one that is resumed, or one in another's place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import MamlError, RunError
from mamlcli.common.names import PATH_KEY, RUNS
from mamlcli.engine.sharing import ALONE, WorkerGroup
from mamlcli.recipe.files import load_recipe, shipped_recipes
from mamlcli.recipe.places import data_path, path_of_run
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.going_on import LENGTH, Changes, change_words, recipe_changes
from mamlcli.runs.models import run_folder
from mamlcli.runs.own_files import is_begun
from mamlcli.runs.place import check_free, check_idle, in_numbered_place
from mamlcli.runs.report import RunReport
from mamlcli.runs.search import is_run, newest_run_path, next_run_path
from mamlcli.training.data_place import check_found, located, note_place
from mamlcli.training.experiment import build
from mamlcli.training.from_run import first_weights, save_first_weights
from mamlcli.training.functions import splits_of_training, training_execution
from mamlcli.training.given import with_given_parts
from mamlcli.training.lengthening import check_length, extra_validation
from mamlcli.training.placement import resolve_device
from mamlcli.training.planned import PlannedRun, Progress
from mamlcli.training.run import result_of, train_runs
from mamlcli.training.scoring import finished_result

DEFAULT_RECIPE = "glyphs-5way-1shot"


@dataclass(frozen=True)
class Start:
    """What is to be trained, where, and what becomes of a run that is there.

    Attributes:
        name: of the recipe.
        recipe: resolved.
        path: the run's directory.
        is_resumed: the run that is there goes on; it must be one of this recipe, but for the keys that may change.
        is_forced: the run that is there is deleted, once the new one can begin.
        may_lengthen: whether a resumed run may go on to another number of meta-iterations.
        source: a trained run whose weights a new one starts from; None for weights drawn by the recipe.
        is_numbered: whether another process may take the number of a new run's path meanwhile; it gets the next then.
    """

    name: str
    recipe: Recipe
    path: Path
    is_resumed: bool = False
    is_forced: bool = False
    may_lengthen: bool = False
    source: RunDirectory | None = None
    is_numbered: bool = False

    @classmethod
    def of_resumed(cls, path: Path, changes: Sequence[str], *, changed_by: str = "command line") -> Start:
        """Return the start of a run that goes on with its own recipe, its data where they are now.

        Args:
            path: its folder.
            changes: words `key.path=value`.
            changed_by: how messages name the place of the changes.
        """
        run = RunDirectory.open(path)
        recipe = load_recipe(str(run.recipe_path), changes, overridden_by=changed_by)[1]
        return cls(run.name, located(run, recipe), run.path, is_resumed=True, may_lengthen=True)

    def changes(self) -> Changes:
        """Return the keys in which the recipe differs from that of the resumed run; none of a new one."""
        if not self.is_resumed:
            return {}
        return recipe_changes(RunDirectory.open(self.path), self.recipe, may_lengthen=self.may_lengthen)

    def finished(self) -> RunReport | None:
        """Check whether the run can begin before anything is built; return its result if it is done already.

        The place of the data of a run that is done is noted, where another one is given.

        Raises:
            RunError: another run is there, or there is none to go on with, or it is of another recipe, or a model that
                ships with mamlcli, or it cannot go on to another number of meta-iterations.
        """
        if self.is_resumed:
            run = RunDirectory.open(self.path)
            run.check_writable()
            changes = self.changes()
            if LENGTH in changes:
                check_length(run, self.recipe)
            elif (result := finished_result(run)) is not None:
                if PATH_KEY in changes and data_path(self.recipe) != data_path(located(run, run.recipe)):
                    note_place(run, self.recipe)
                return result
        elif self.is_numbered:
            pass  # it takes a number when it is made
        elif not self.is_forced:
            check_free(self.path)
        elif self.source is not None and self.source.path.resolve() == self.path.resolve():
            got, next_step = "the run itself, which --force deletes", "Name another --run-dir"
            raise RunError(f"--from {self.source.label}", expected="another run", got=got, next_step=next_step)
        else:
            check_free(self.path, is_forced=True)
            check_idle(self.path)
        return None

    def notes(self) -> list[str]:
        """Return in words what is otherwise in a run that goes on, a line each."""
        changes = self.changes()
        extra = extra_validation(RunDirectory.open(self.path), self.recipe) if LENGTH in changes else None
        return [*change_words(changes), *([extra] if extra else [])]

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
        if self.is_resumed:
            check_found(RunDirectory.open(self.path), self.recipe)
        experiment = build(self.recipe, splits=splits_of_training(self.recipe))
        training_execution(experiment, group.num_workers)  # refuses what this machine has no way to do
        first = None if self.source is None else first_weights(self.source, experiment)
        if self.is_resumed:
            run = RunDirectory.open(self.path)
        else:
            run = self._new_run({} if first is None else {"started_from": first.record})
            if first is not None:
                save_first_weights(run, experiment, first.meta)
        [end] = train_runs([PlannedRun(run, experiment, argv, progress)], group=group)
        return result_of(end)

    def _new_run(self, notes: Mapping[str, object]) -> RunDirectory:
        """Make the run's directory."""

        def make(path: Path) -> RunDirectory:
            return RunDirectory.create(path, self.recipe, self.name, notes, is_forced=self.is_forced)

        return in_numbered_place(RUNS, self.name, make) if self.is_numbered else make(self.path)

    def path_of(self, report: RunReport) -> Path:
        """Return where the run is that has this result: a numbered one may have another number than was free first."""
        return Path(report.run) if self.is_numbered and report.run else self.path


def start_of(
    recipe: str | Path | None,
    changes: Sequence[str],
    path: str | Path | None = None,
    source: str | Path | None = None,
    *,
    is_resumed: bool = False,
    is_forced: bool = False,
    changed_by: str = "command line",
) -> Start:
    """Return what is to be trained, and where.

    A run that goes on has its own recipe where no other is named, one that starts from another run the recipe of that.

    Args:
        recipe: a shipped name or a file; None where none is named, then a new run is of `DEFAULT_RECIPE`. With
            is_resumed and without a path it may be the run that goes on.
        changes: words `key.path=value`.
        path: where the run goes, or the one that goes on; by default as `default_path` says.
        source: a trained run, or the name of a model, whose weights a new run starts from.
        is_resumed, is_forced: see `Start`.
        changed_by: how messages name the place of the changes.

    Raises:
        RecipeError: mistakes in the recipe and the changes; RunError: a run that is not there, or one that goes on and
            should start from another, too.
    """
    if recipe and str(recipe) not in shipped_recipes() and not path_of_run(recipe).is_file():
        if is_resumed and path is None:
            recipe, path = None, recipe
        elif is_run(path_of_run(recipe)) or is_run(RUNS / path_of_run(recipe)):
            raise _no_recipe(recipe)
    folder = None if path is None else path_of_run(path)
    if is_resumed and folder is not None:
        folder = run_folder(folder)
    if is_resumed and source is not None:
        expected, next_step = "either a run that goes on or one to start from", "Leave one of them out"
        raise RunError(changed_by, expected=expected, got="both", next_step=next_step)
    if is_resumed and recipe is None:
        return Start.of_resumed(folder or default_path(DEFAULT_RECIPE, is_resumed=True), changes, changed_by=changed_by)
    trained = None if source is None else RunDirectory.open(Path(source))
    read = partial(load_recipe, overrides=changes, overridden_by=changed_by, rewritten=with_given_parts)
    if trained is not None and recipe is None:
        name, loaded = trained.name, located(trained, read(str(trained.recipe_path))[1])
    else:
        name, loaded = read(str(DEFAULT_RECIPE if recipe is None else recipe))
    return Start(
        name,
        loaded,
        folder or default_path(name, is_resumed=is_resumed),
        is_resumed=is_resumed,
        is_forced=is_forced,
        source=trained,
        is_numbered=folder is None and not is_resumed,
    )


def _no_recipe(run: str | Path) -> RunError:
    """Return the error that a run was named in the place of a recipe."""
    resume, new = command("train", "--resume", "--run-dir", run), command("train", "--from", run)
    next_step = f"To go on with it: {resume}; to start from its weights: {new}"
    return RunError(str(run), expected="a recipe", got="a run", next_step=next_step)


def default_path(name: str, *, is_resumed: bool) -> Path:
    """Return where a run of a recipe goes: `runs/<name>-<number>`, the next number, or the newest to go on with.

    Raises:
        RunError: there is none to go on with.
    """
    if not is_resumed:
        return next_run_path(RUNS, name)
    newest = newest_run_path(RUNS, name, lambda path: not is_begun(path))
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
