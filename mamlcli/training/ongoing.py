"""Keeps runs in work: each takes its lock, saves checkpoints, stops at a signal, and notes how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace

from mamlcli.common.disk import environment_error
from mamlcli.common.errors import Interrupted, MamlError, NonFiniteError, RunError, WorkerError
from mamlcli.engine.evaluation import Evaluation
from mamlcli.engine.execution import Execution
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.outer_loop import Record, ValidationRecord, is_over
from mamlcli.engine.state import OuterLoop, TrainState, new_state, restore_state
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import RunReport
from mamlcli.runs.suggestions import resume
from mamlcli.training.checkpoints import check_best, checkpoint_path, load_checkpoint, save_checkpoint
from mamlcli.training.endings import end_noted, environment_told, way_on
from mamlcli.training.experiment import Experiment
from mamlcli.training.functions import training_execution
from mamlcli.training.lengthening import without_extra_validation
from mamlcli.training.manifest import (
    changes_now,
    execution_record,
    is_computed_anew,
    recorded_execution,
    start_manifest,
)
from mamlcli.training.placement import use_threads
from mamlcli.training.planned import PlannedRun
from mamlcli.training.scoring import evaluation_report, write_evaluation
from mamlcli.training.trackers.process import Patience
from mamlcli.training.trackers.told import ToldTrackers
from mamlcli.training.trained import best_weights


@dataclass
class OngoingRun:
    """A run that is locked and in work; `opened` makes it.

    Attributes:
        plan: what was asked for.
        state: of its training.
        outer: the settings of its outer loop.
        how: how the tasks of a meta-batch are run.
        trackers: what is told of it as it goes on.
        started: time.monotonic() at the start of training here.
        noted: of the state that the metrics and the best checkpoint are up to date with, (meta-iterations done,
            meta-iterations done at its last validation).
        saved: meta-iterations done at the last checkpoint; 0 for none.
        is_saved: whether the last checkpoint is of the present state.
        is_trained: whether training is over, so that there is nothing more to save.
    """

    plan: PlannedRun
    state: TrainState
    outer: OuterLoop
    how: Execution
    trackers: ToldTrackers
    started: float
    noted: tuple[int, int]
    saved: int = 0
    is_saved: bool = False
    is_trained: bool = False

    def take(self, record: Record | NonFiniteError, *, is_stopping: bool) -> None:
        """Log what the engine yielded, save checkpoints, and stop where asked."""
        if isinstance(record, NonFiniteError):
            raise record
        self.is_saved = False
        directory, state = self.plan.directory, self.state
        line = {"kind": _kind(record), **vars(record), "elapsed_s": round(time.monotonic() - self.started, 4)}
        directory.append_metrics(line)
        if isinstance(record, ValidationRecord) and record.is_best:
            best = {"iteration": state.iteration, "score": state.best_score}
            directory.sync_metrics()
            save_checkpoint(directory, "best", state.params, best)
        self.noted = state.iteration, state.last_validated
        self.trackers.take(line)
        if self.plan.progress.on_record:
            self.plan.progress.on_record(record)
        if is_stopping:
            raise _interruption(directory, f"after iteration {state.iteration}")
        is_last = is_over(state, self.outer)
        if is_last or state.iteration % self.plan.experiment.recipe.outer.checkpoint_every == 0:
            self.save()
            directory.note_metrics()

    def save(self) -> None:
        """Write the state as the last checkpoint."""
        self.plan.directory.sync_metrics()
        save_checkpoint(self.plan.directory, "last", *self.state.export())
        self.saved, self.is_saved = self.state.iteration, True

    def save_if_possible(self) -> bool:
        """Save the state where an error ends training; return whether the last checkpoint is of it.

        Not the state in the middle of an update, and none that metrics and best weights lag behind: training would go
        on from it with a hole in them. The last checkpoint is then the one before.
        """
        state = self.state
        can_go_on = state.is_whole and self.noted == (state.iteration, state.last_validated)
        if can_go_on and not self.is_saved:
            with suppress(Exception):  # the error that ends training says more than what comes of it
                self.save()
        return self.is_saved

    def end_training(self) -> None:
        """Save the state where it is not saved yet, and let go of what only training needs."""
        if not self.is_saved:
            self.save()
        self.is_trained = True

    def begin_evaluation(self, *, is_stopping: bool) -> tuple[MetaParams, str]:
        """Return the weights to score, and which they are in words."""
        if is_stopping:  # this one had stopped early when the others were told to stop
            raise _interruption(self.plan.directory, "before the evaluation")
        if self.plan.progress.on_evaluation:
            self.plan.progress.on_evaluation(self.plan.experiment.recipe.evaluation.tasks)
        return best_weights(self.plan.directory, self.plan.experiment)

    def evaluated(self, evaluation: Evaluation, weights: str, *, is_stopping: bool) -> RunReport:
        """Write the final evaluation, and return the result."""
        directory, experiment = self.plan.directory, self.plan.experiment
        if is_stopping:
            raise _interruption(directory, "during the evaluation")
        spec = experiment.recipe.evaluation
        steps = spec.steps or experiment.recipe.inner.steps
        report = evaluation_report(directory, experiment, evaluation, weights, split=spec.split, num_steps=steps)
        write_evaluation(directory.path, evaluation, report)
        self.trackers.take_report(report, {"curve": directory.curve_path})
        return report


class OngoingRuns:
    """The runs in work that are trained together, each with its context, which it leaves by its error or at its end.

    Attributes:
        runs: those in work, by index.
        states: of their training, by index.
        ends: of each run its result or error; what says otherwise is not yet over.
    """

    def __init__(self, number: int) -> None:
        self.runs: dict[int, OngoingRun] = {}
        self.states: dict[int, TrainState] = {}
        self.ends: list[RunReport | BaseException] = [RuntimeError("not over")] * number
        self._contexts: dict[int, ExitStack] = {}

    def start_all(self, plans: Sequence[PlannedRun], num_workers: int) -> None:
        """Open every run; one that cannot be opened ends by its error."""
        patience = Patience()
        for index, plan in enumerate(plans):
            stack = ExitStack()
            try:
                run = stack.enter_context(opened(plan, num_workers, len(plans), patience))
            except BaseException as error:
                self.ends[index] = error
                if not isinstance(error, Exception):
                    self.ends[index:] = [error] * (len(plans) - index)
                    raise
            else:
                self.runs[index], self.states[index], self._contexts[index] = run, run.state, stack

    def warn(self, text: str) -> None:
        """Say of every run in work what happened beside its training: to its caller, else in its manifest."""
        for run in self.runs.values():
            _warning_of(run.plan)(text)

    def begin_training(self) -> None:
        """Let the time of training begin for every run."""
        for run in self.runs.values():
            run.started = time.monotonic()

    def end(self, index: int, end: RunReport | BaseException) -> None:
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
    def run(self, index: int) -> Iterator[OngoingRun]:
        """Yield a run for a block of work; an error in the block ends this run alone."""
        try:
            yield self.runs[index]
        except Exception as error:
            self.end(index, error)


# The context of a run ---------------------------------------------------------------------------------------------


@contextmanager
def opened(
    plan: PlannedRun, num_workers: int = 1, num_runs: int = 1, patience: Patience | None = None
) -> Iterator[OngoingRun]:
    """Hold a run's lock, with its state and its manifest; at its end write to the manifest how it ended.

    An error that ends training saves the state, and says so.

    Args:
        plan: the run.
        num_workers: processes that share its tasks.
        num_runs: runs that are computed together, itself included.
        patience: of the end with trackers, which these runs share.

    Raises:
        RunError: the run is in use, damaged, of another recipe, or was trained on other data; its manifest stays as it
            is.
    """
    directory, experiment = plan.directory, plan.experiment
    with environment_told(directory), directory.lock():
        experiment.use_threads()
        outer = experiment.outer_loop()
        state = _state_of(directory, experiment, outer)
        changes = changes_now(directory, experiment, state.iteration, num_workers)
        is_as_before = state.iteration and not is_computed_anew(changes)
        record = recorded_execution(directory, num_workers, num_runs) if is_as_before else None
        wall_before = float(directory.manifest.get("wall_s", 0.0)) if state.iteration else 0.0
        if record is None:
            how = training_execution(experiment, num_workers, num_runs)
            record = execution_record(experiment, how, num_workers, num_runs)
        # A manifest of an early version does not tell the precision.
        record = replace(record, dtype=experiment.recipe.execution.dtype)
        use_threads(record.threads)
        start_manifest(directory, experiment, plan.argv, state, record, changes)
        directory.remove_results()
        with end_noted(plan, state, record.how, wall_before), closing(directory):
            directory.rewind_metrics(state.iteration, state.last_validated)
            if plan.progress.on_start:
                plan.progress.on_start(experiment, directory, state.iteration)
            trackers = ToldTrackers(directory, experiment.recipe, state.iteration, _warning_of(plan), patience)
            noted = state.iteration, state.last_validated
            run = OngoingRun(plan, state, outer, record.how, trackers, time.monotonic(), noted, state.iteration)
            with trackers.until_the_end(lambda: state.is_stopped), _saved_at_an_error(run):
                yield run


def _warning_of(plan: PlannedRun) -> Callable[[str], None]:
    """Return what takes a warning: the caller of the run, else its manifest."""

    def note(text: str) -> None:
        with suppress(Exception):  # a full disk, perhaps; training goes on as long as it can
            plan.directory.update_manifest({"noticed": [*plan.directory.manifest.noticed, text]})

    return plan.progress.on_warning or note


@contextmanager
def _saved_at_an_error(run: OngoingRun) -> Iterator[None]:
    """Save the state where an error of whatever kind ends training, and add to the error what is saved."""
    try:
        yield
    except Interrupted:
        if not run.is_trained:
            run.save()  # where this fails, the run is not saved as the interruption says, and ends by that
        raise
    except BaseException as error:
        if run.is_trained and isinstance(error, WorkerError):
            raise _with_next_step(error, way_on(run.plan.directory, "The run is trained")) from error
        if run.is_trained:
            raise
        is_saved = run.save_if_possible()
        if isinstance(error, NonFiniteError) and is_saved:
            checkpoints = run.plan.directory.path / "checkpoints"
            raise _with_next_step(error, f"The state before it is kept in {checkpoints}. {error.next_step}") from error
        way = way_on(run.plan.directory, f"The run is saved after iteration {run.saved}" if run.saved else None)
        if isinstance(error, WorkerError):
            raise _with_next_step(error, way) from error
        if told := environment_error(error, next_step=way):
            raise told from error
        raise


def _with_next_step(error: MamlError, next_step: str | None) -> MamlError:
    return type(error)(error.where, expected=error.expected, got=error.got, why=error.why, next_step=next_step)


def _state_of(run: RunDirectory, experiment: Experiment, outer: OuterLoop) -> TrainState:
    """Return the state of the last checkpoint, or a new one."""
    meta = experiment.initial_meta()
    checkpoint = load_checkpoint(run, "last")
    check_best(run, checkpoint[1].get("best_iteration", 0) if checkpoint else 0)
    if checkpoint is None:
        if source := run.manifest.started_from.get("run"):
            expected, next_step = f"the weights of {source}, which the run starts from", "Train again with --force"
            raise RunError(str(checkpoint_path(run, "last")), expected=expected, got="none", next_step=next_step)
        return new_state(meta, outer)
    try:
        return without_extra_validation(restore_state(meta, outer, *checkpoint), outer)
    except (KeyError, ValueError) as error:
        raise RunError(
            str(checkpoint_path(run, "last")),
            expected="the tensors of this recipe's model",
            got=str(error),
            next_step="Train again with --force",
        ) from error


def _interruption(run: RunDirectory, when: str) -> Interrupted:
    return Interrupted(f"interrupted {when}; the run is saved. Continue: {resume(run.path)}")


def _kind(record: Record) -> str:
    return type(record).__name__.removesuffix("Record").lower()
