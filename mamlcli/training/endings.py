"""Notes in a run's manifest how the run ended, and words what ended it: memory, or what the system refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mamlcli.common.disk import environment_error
from mamlcli.common.errors import Interrupted, is_out_of_memory
from mamlcli.common.machine import now, peak_memory_mb
from mamlcli.engine.execution import Execution
from mamlcli.engine.state import TrainState
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.search import is_run
from mamlcli.runs.suggestions import resume
from mamlcli.training.placement import memory_error
from mamlcli.training.planned import PlannedRun


@contextmanager
def end_noted(plan: PlannedRun, state: TrainState, how: Execution, wall_before: float) -> Iterator[None]:
    """Write to a run's manifest how the block ended: done, stopped early, interrupted or failed.

    Where an error ended it, the manifest is written if it can be: that error says more than a second one.

    Args:
        plan: the run.
        state: of its training.
        how: how its tasks are run, for what is said where memory runs out.
        wall_before: seconds that the run took until now.
    """
    started = time.monotonic()

    def note(**outcome: str | None) -> None:
        plan.directory.update_manifest(
            {
                **outcome,
                "iterations_done": state.iteration,
                "wall_s": round(wall_before + time.monotonic() - started, 3),
                "peak_memory_mb": peak_memory_mb(plan.experiment.device),
            }
        )

    try:
        yield
    except BaseException as error:
        told = _told(error, plan, how)
        status = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
        with suppress(Exception):
            note(status=status, reason=str(told), error=type(error).__name__)
        if told is error:
            raise
        raise told from error
    note(status="stopped early" if state.is_stopped else "done", finished_at=now())


def _told(error: BaseException, plan: PlannedRun, how: Execution) -> BaseException:
    """Return what a user is told of an error; the error itself where that needs no other words."""
    if is_out_of_memory(error):
        return memory_error(plan.experiment.recipe, how, error)
    return environment_error(error, next_step=way_on(plan.directory)) or error


@contextmanager
def environment_told(run: RunDirectory) -> Iterator[None]:
    """Raise what the system refuses in the block as an error that says what to free, and how to go on."""
    try:
        yield
    except OSError as error:
        told = environment_error(error, next_step=way_on(run))
        if told is None:
            raise
        raise told from error


def way_on(run: RunDirectory, saved: str | None = None) -> str | None:
    """Return how to go on with a run, for the end of a message; None where it has no folder any more.

    Args:
        run: its folder.
        saved: what is said of its state.
    """
    if not is_run(run.path):
        return None
    go_on = f"o on: {resume(run.path)}"
    return f"{saved}. G{go_on}" if saved else f"Then g{go_on}"
