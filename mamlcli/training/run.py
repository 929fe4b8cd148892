"""One run from start to end: build, engine, evaluation and run directory; what the command line and sweeps call."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch

from mamlcli.common.errors import Interrupted, NonFiniteError, RunError, WorkerError, is_out_of_memory
from mamlcli.common.machine import now, peak_memory_mb
from mamlcli.common.processes.signals import interruption_flag
from mamlcli.engine.evaluation import Evaluation
from mamlcli.engine.execution import Execution
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.outer_loop import Record, ValidationRecord, is_over, train
from mamlcli.engine.sharing import ALONE, WorkerGroup
from mamlcli.engine.state import TrainState, new_state, restore_state
from mamlcli.recipe.files import recipe_to_tree
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import checkpoint_path, load_checkpoint, save_checkpoint
from mamlcli.training.events import EventLog, check_event_log, log_evaluation
from mamlcli.training.experiment import Experiment
from mamlcli.training.functions import training_execution, training_functions
from mamlcli.training.manifest import execution_record, recorded_execution, start_manifest
from mamlcli.training.placement import memory_error
from mamlcli.training.scoring import RunResult, evaluation_report, score_at_end, write_evaluation
from mamlcli.training.trained import best_weights

Arguments = ParamSpec("Arguments")


Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """What a run tells its caller while it goes on; each may be None.

    Attributes:
        on_start: called once with the experiment, the run and the iteration it starts from.
        on_record: called with every engine record.
        on_evaluation: called before the final evaluation with its number of tasks.
    """

    on_start: Callable[[Experiment, RunDirectory, int], None] | None = None
    on_record: Callable[[Record], None] | None = None
    on_evaluation: Callable[[int], None] | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One run that is to be trained, alone or together with others.

    Attributes:
        directory: its folder, made for this recipe.
        experiment: built from the run's recipe with `splits_of_training`.
        argv: the command, for the manifest.
        progress: what to call on the way.
    """

    directory: RunDirectory
    experiment: Experiment
    argv: list[str]
    progress: Progress = Progress()


def train_runs(
    runs: Sequence[PlannedRun], *, group: WorkerGroup = ALONE, is_stopped: Callable[[], bool] = bool
) -> list[RunResult | BaseException]:
    """Meta-train and evaluate one run or several in their directories, each from its last checkpoint if it has one.

    Where a model is tiny, calling the operations costs more than the operations, and eight times the tasks take
    hardly more calls. So runs at the same iteration advance together. Each stays a run of its own: same tasks, same
    results up to rounding. One that diverges, stops early or fails leaves the others as they are. An interruption
    saves all.

    Args:
        runs: their recipes differ in `seed` alone.
        group: workers that share the tasks of one run, of which this is number 0; the others are in `follow_run`.
        is_stopped: asked once for all that is computed together whether to stop, as are SIGINT and SIGTERM.

    Returns:
        For each run its result, or what it ended by:
        Interrupted: it was told to stop; the state is saved.
        NonFiniteError: training diverged; the last good state is saved.
        WorkerError: another worker is gone; the state is saved.
        RunError: the run is in use, damaged, or was trained on other data.
    """
    ongoing = _OngoingRuns(len(runs))
    try:
        for index, run in enumerate(runs):
            ongoing.start(index, _opened(run, group.num_workers, len(runs)))
        if ongoing.runs:
            _train_and_evaluate(ongoing, [run.experiment for run in runs], group, is_stopped)
    except BaseException as error:  # whatever it is, every run saves its state and ends by it
        ongoing.end_all(error)
    return ongoing.ends


def result_of(end: RunResult | BaseException) -> RunResult:
    """Return the result of a run, or raise what it ended by."""
    if isinstance(end, BaseException):
        raise end
    return end


@dataclass
class _OngoingRun:
    """A run that is locked and in work; `_opened` makes it.

    Attributes:
        plan: what was asked for.
        state: of its training.
        how: how the tasks of a meta-batch are run.
        events: its event files.
        started: time.monotonic() at its start here.
        is_trained: whether training is over, so that there is nothing more to save.
    """

    plan: PlannedRun
    state: TrainState
    how: Execution
    events: EventLog
    started: float
    is_trained: bool = False

    def take(self, record: Record | NonFiniteError, *, is_stopping: bool) -> None:
        """Log what the engine yielded, save checkpoints, and stop where asked."""
        if isinstance(record, NonFiniteError):
            raise record
        directory, state = self.plan.directory, self.state
        line = {"kind": _kind(record), **vars(record), "elapsed_s": round(time.monotonic() - self.started, 4)}
        directory.append_metrics(line)
        self.events.write(line)
        if isinstance(record, ValidationRecord) and record.is_best:
            best = {"iteration": state.iteration, "score": state.best_score}
            save_checkpoint(directory, "best", state.params, best)
        if self.plan.progress.on_record:
            self.plan.progress.on_record(record)
        if is_stopping:
            raise _interruption(directory, f"after iteration {state.iteration}")
        is_last = is_over(state, self.plan.experiment.outer_loop())
        if is_last or state.iteration % self.plan.experiment.recipe.outer.checkpoint_every == 0:
            self.save()

    def save(self) -> None:
        """Write the state as the last checkpoint."""
        save_checkpoint(self.plan.directory, "last", *self.state.export())

    def end_training(self) -> None:
        """Save the state, and let go of what only training needs."""
        self.save()
        self.events.close()
        self.is_trained = True

    def evaluated(self, evaluation: Evaluation, weights: str, *, is_stopping: bool) -> RunResult:
        """Write the final evaluation, and return the result."""
        directory, experiment = self.plan.directory, self.plan.experiment
        if is_stopping:
            raise _interruption(directory, "during the evaluation")
        spec = experiment.recipe.evaluation
        steps = spec.steps or experiment.recipe.inner.steps
        report = evaluation_report(directory, experiment, evaluation, weights, split=spec.split, num_steps=steps)
        log_evaluation(experiment.recipe.logging, directory.path, report)
        write_evaluation(directory.path, evaluation, report)
        return RunResult(directory, report.to_json(), weights)


@contextmanager
def _opened(plan: PlannedRun, num_workers: int, num_runs: int) -> Iterator[_OngoingRun]:
    """Hold a run's lock, with its state and its manifest; at its end write to the manifest how it ended.

    An error that ends training saves the state, and says so.
    """
    directory, experiment = plan.directory, plan.experiment
    check_event_log(experiment.recipe.logging)
    with directory.lock():
        state = _state_of(directory, experiment)
        record = recorded_execution(directory, num_workers, num_runs) if state.iteration else None
        wall_before = float(directory.manifest.get("wall_s", 0.0)) if state.iteration else 0.0
        if record is None:
            how = training_execution(experiment, num_workers, num_runs)
            record = execution_record(experiment, how, num_workers, num_runs)
        torch.set_num_threads(record.threads)
        start_manifest(directory, experiment, plan.argv, state, record)
        directory.rewind_metrics(state.iteration, state.last_validated)
        if plan.progress.on_start:
            plan.progress.on_start(experiment, directory, state.iteration)
        started = time.monotonic()
        outcome: dict[str, Any] = {"status": "failed"}
        events = EventLog(experiment.recipe.logging, directory.path, state.iteration, directory.read_metrics())
        run = _OngoingRun(plan, state, record.how, events, started)
        try:
            with _saved_at_an_error(run):
                yield run
            outcome = {"status": "stopped early" if state.is_stopped else "done", "finished_at": now()}
        except BaseException as error:
            is_interruption = isinstance(error, Interrupted | KeyboardInterrupt)
            outcome = {"status": "interrupted" if is_interruption else "failed", "reason": str(error)}
            if is_out_of_memory(error):
                raise memory_error(experiment.recipe, record.how, error) from error
            raise
        finally:
            events.close()
            directory.close()
            directory.update_manifest(
                {
                    **outcome,
                    "iterations_done": state.iteration,
                    "wall_s": round(wall_before + time.monotonic() - started, 3),
                    "peak_memory_mb": peak_memory_mb(experiment.device),
                }
            )


@contextmanager
def _saved_at_an_error(run: _OngoingRun) -> Iterator[None]:
    """Save the state where an error ends training, and add to the error where it is."""
    try:
        yield
    except (Interrupted, NonFiniteError, WorkerError) as error:
        if run.is_trained:
            raise
        run.save()
        if isinstance(error, Interrupted):
            raise
        path = run.plan.directory.path
        saved = f"The state before it is kept in {path / 'checkpoints'}. {error.next_step}"
        if isinstance(error, WorkerError):
            resume = f"mamlcli train --resume --run-dir {path}"
            saved = f"The run is saved after iteration {run.state.iteration}. Run: {resume}"
        raise type(error)(
            error.where, expected=error.expected, got=error.got, why=error.why, next_step=saved
        ) from error


class _OngoingRuns:
    """The runs in work, each with its context, which it leaves by its error or at its end.

    Attributes:
        runs: those in work, by index.
        states: of their training, by index.
        ends: of each run its result or error; what says otherwise is not yet over.
    """

    def __init__(self, number: int) -> None:
        self.runs: dict[int, _OngoingRun] = {}
        self.states: dict[int, TrainState] = {}
        self.ends: list[RunResult | BaseException] = [RuntimeError("not over")] * number
        self._contexts: dict[int, ExitStack] = {}

    def start(self, index: int, context: AbstractContextManager[_OngoingRun]) -> None:
        """Enter the context of a run."""
        stack = ExitStack()
        try:
            run = stack.enter_context(context)
        except BaseException as error:
            self.ends[index] = error
            if not isinstance(error, Exception):
                raise
        else:
            self.runs[index], self.states[index], self._contexts[index] = run, run.state, stack

    def end(self, index: int, end: RunResult | BaseException) -> None:
        """Leave the context of a run by its error, or with its result."""
        del self.runs[index], self.states[index]
        try:
            with self._contexts.pop(index):
                if isinstance(end, BaseException):
                    raise end
            self.ends[index] = end
        except BaseException as error:
            self.ends[index] = error

    def end_all(self, error: BaseException) -> None:
        """Leave the contexts of all runs in work by an error."""
        for index in list(self.runs):
            self.end(index, error)

    @contextmanager
    def one(self, index: int) -> Iterator[_OngoingRun]:
        """Give a run; an error in the block ends this run alone."""
        try:
            yield self.runs[index]
        except Exception as error:
            self.end(index, error)


class _Stop:
    """Whether the runs are told to stop, asked once after all that is computed together: so they stop together."""

    def __init__(self, is_asked: Callable[[], bool]) -> None:
        self._is_asked = is_asked
        self.is_set = False

    def asked_after(self, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Return the function, asking whether to stop after each call."""

        @functools.wraps(function)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            result = function(*args, **kwargs)
            self.is_set = self.is_set or self._is_asked()
            return result

        return call


def _train_and_evaluate(
    ongoing: _OngoingRuns, experiments: Sequence[Experiment], group: WorkerGroup, is_stopped: Callable[[], bool]
) -> None:
    first = next(iter(ongoing.runs.values()))
    group.lead(_plan(first.plan.experiment, first.state, first.how), first.plan.experiment.device)
    with interruption_flag(second_ends=group.place is None) as is_asked:
        stop = _Stop(group.agree(lambda: is_asked() or is_stopped()))
        gradients, validate = training_functions(experiments, first.how, group)
        outers = {index: run.plan.experiment.outer_loop() for index, run in ongoing.runs.items()}
        for index, record in train(ongoing.states, outers, stop.asked_after(gradients), stop.asked_after(validate)):
            if index in ongoing.runs:
                with ongoing.one(index) as run:
                    run.take(record, is_stopping=stop.is_set)
        for index in list(ongoing.runs):
            with ongoing.one(index) as run:
                run.end_training()
        _evaluate(ongoing, stop, group)


def _evaluate(ongoing: _OngoingRuns, stop: _Stop, group: WorkerGroup) -> None:
    """Score all runs that were trained, on the same tasks at once."""
    chosen: dict[int, tuple[MetaParams, str]] = {}
    for index in list(ongoing.runs):
        with ongoing.one(index) as run:
            if stop.is_set:  # this one had stopped early when the others were told to stop
                raise _interruption(run.plan.directory, "before the evaluation")
            if run.plan.progress.on_evaluation:
                run.plan.progress.on_evaluation(run.plan.experiment.recipe.evaluation.tasks)
            chosen[index] = best_weights(run.plan.directory, run.plan.experiment)
    if not chosen:
        return
    experiment = ongoing.runs[min(chosen)].plan.experiment
    evaluations = stop.asked_after(score_at_end)(experiment, [meta for meta, _ in chosen.values()], group)
    for (index, (_, weights)), evaluation in zip(chosen.items(), evaluations, strict=True):
        with ongoing.one(index) as run:
            result = run.evaluated(evaluation, weights, is_stopping=stop.is_set)
            ongoing.end(index, result)


def _state_of(run: RunDirectory, experiment: Experiment) -> TrainState:
    """Return the state of the last checkpoint, or a new one."""
    meta, outer = experiment.initial_meta(), experiment.outer_loop()
    checkpoint = load_checkpoint(run, "last")
    if checkpoint is None:
        return new_state(meta, outer)
    try:
        return restore_state(meta, outer, *checkpoint)
    except (KeyError, ValueError) as error:
        raise RunError(
            str(checkpoint_path(run, "last")),
            expected="the tensors of this recipe's model",
            got=str(error),
            next_step="Train again with --force",
        ) from error


def _plan(experiment: Experiment, state: TrainState, how: Execution) -> dict[str, Any]:
    """Return what other workers need to know to do the same."""
    return {
        "recipe": recipe_to_tree(experiment.recipe),
        "device": experiment.device.type,
        "digest": experiment.data.get("digest"),
        "state": state.export(),
        "how": how,
        "threads": torch.get_num_threads(),
    }


def _interruption(run: RunDirectory, when: str) -> Interrupted:
    return Interrupted(f"interrupted {when}; the run is saved. Continue: mamlcli train --resume --run-dir {run.path}")


def _kind(record: Record) -> str:
    return type(record).__name__.removesuffix("Record").lower()
