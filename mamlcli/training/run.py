"""Trains, scores and writes one run or several at once; the command line and studies call it.

A step goes from here to `engine.outer_loop.train`, which asks for meta-gradients: `functions.training_functions` draws
the tasks, and `engine.execution.meta_gradients` computes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import ParamSpec, TypeVar

from mamlcli.common.processes.signals import interruption_flag
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.outer_loop import train
from mamlcli.engine.sharing import ALONE, WorkerGroup
from mamlcli.runs.report import RunReport
from mamlcli.training.experiment import Experiment
from mamlcli.training.follow import SharedRun
from mamlcli.training.functions import training_functions
from mamlcli.training.ongoing import OngoingRuns
from mamlcli.training.planned import PlannedRun
from mamlcli.training.scoring import score_at_end

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def train_runs(
    runs: Sequence[PlannedRun], *, group: WorkerGroup = ALONE, is_stopped: Callable[[], bool] = bool
) -> list[RunReport | BaseException]:
    """Meta-train and evaluate one run or several in their directories, each from its last checkpoint if it has one.

    Where a model is tiny, calling the operations costs more than the operations, and eight times the tasks take
    hardly more calls. So runs at the same iteration advance together. Each stays a run of its own: same tasks, same
    results up to rounding. One that diverges, stops early or fails leaves the others as they are. An interruption
    saves all.

    Args:
        runs: their recipes differ in `seed` and `evaluation.seed` alone.
        group: workers that share the tasks of one run, of which this is number 0; the others are in `follow_run`.
        is_stopped: asked once for all that is computed together whether to stop, as are SIGINT and SIGTERM.

    Returns:
        For each run its result, or what it ended by:
        Interrupted: it was told to stop; the state is saved.
        NonFiniteError: training diverged; the last good state is saved.
        WorkerError: another worker is gone; the state is saved.
        RunError: the run is in use, damaged, or was trained on other data.
    """
    ongoing = OngoingRuns(len(runs))
    with ExitStack() as signals:
        flag = interruption_flag(second_ends=group.place is None)
        try:
            # Workers first wait for each other; until then a signal ends the process at once.
            is_asked = signals.enter_context(flag) if group.place is None else None
            ongoing.start_all(runs, group.num_workers)
            if ongoing.runs:
                _lead(ongoing, group)
                is_asked = is_asked or signals.enter_context(flag)
                stop = _Stop(group.agree(_either(is_asked, is_stopped)))
                _train_and_evaluate(ongoing, [run.experiment for run in runs], group, stop)
        except BaseException as error:  # whatever it is, every run ends by it
            ongoing.end_all(error)
    return ongoing.ends


def result_of(end: RunReport | BaseException) -> RunReport:
    """Return the result of a run, or raise what it ended by."""
    if isinstance(end, BaseException):
        raise end
    return end


class _Stop:
    """Knows whether to stop: asked once after all that runs compute together, so that they stop together."""

    def __init__(self, is_asked: Callable[[], bool]) -> None:
        self._is_asked = is_asked
        self.is_set = False

    def ask(self) -> None:
        """Ask whether to stop."""
        self.is_set = self.is_set or self._is_asked()

    def asked_after(self, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Return the function, asking whether to stop after each call."""

        @functools.wraps(function)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            result = function(*args, **kwargs)
            self.ask()
            return result

        return call


def _either(first: Callable[[], bool], second: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: first() or second()


def _lead(ongoing: OngoingRuns, group: WorkerGroup) -> None:
    """Tell the other workers, where there are any, what the run is."""
    first = next(iter(ongoing.runs.values()))
    experiment = first.plan.experiment
    plan, lost_after_s = SharedRun.of(experiment, first.state, first.how), experiment.recipe.execution.worker_timeout
    group.lead(plan, experiment.device, lost_after_s=lost_after_s)


def _train_and_evaluate(
    ongoing: OngoingRuns, experiments: Sequence[Experiment], group: WorkerGroup, stop: _Stop
) -> None:
    """Train all runs in work to their ends, then score them."""
    how = next(iter(ongoing.runs.values())).how
    gradients, validate = training_functions(experiments, how, group)
    outers = {index: run.outer for index, run in ongoing.runs.items()}
    ongoing.begin_training()
    for index, record in train(ongoing.states, outers, stop.asked_after(gradients), stop.asked_after(validate)):
        if index in ongoing.runs:
            with ongoing.run(index) as run:
                run.take(record, is_stopping=stop.is_set)
    for index in list(ongoing.runs):
        with ongoing.run(index) as run:
            run.end_training()
    _evaluate(ongoing, stop, group)


def _evaluate(ongoing: OngoingRuns, stop: _Stop, group: WorkerGroup) -> None:
    """Score all runs that were trained, each on the tasks of its `evaluation.seed`."""
    stop.ask()
    weights: dict[int, tuple[MetaParams, str]] = {}
    for index in list(ongoing.runs):
        with ongoing.run(index) as run:
            weights[index] = run.begin_evaluation(is_stopping=stop.is_set)
    if not weights:
        return
    plans = [ongoing.runs[index].plan for index in weights]
    evaluations = stop.asked_after(score_at_end)(
        [plan.experiment for plan in plans],
        [meta for meta, _ in weights.values()],
        group,
        with_probe=any(plan.with_probe for plan in plans),
    )
    for (index, (_, which)), evaluation in zip(weights.items(), evaluations, strict=True):
        with ongoing.run(index) as run:
            ongoing.end(index, run.evaluated(evaluation, which, is_stopping=stop.is_set))
