"""Describes a run that is to be trained, and what it tells its caller on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mamlcli.engine.outer_loop import Record
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.experiment import Experiment


@dataclass(frozen=True)
class Progress:
    """What a run tells its caller while it goes on; each may be None.

    Attributes:
        on_start: called once with the experiment, the run and the iteration it starts from.
        on_record: called with every engine record.
        on_warning: called with what went wrong beside the training, a tracker that is off; where it is
            None, the manifest notes it, and `mamlcli runs show` tells of it.
        on_evaluation: called before the final evaluation with its number of tasks.
    """

    on_start: Callable[[Experiment, RunDirectory, int], None] | None = None
    on_record: Callable[[Record], None] | None = None
    on_evaluation: Callable[[int], None] | None = None
    on_warning: Callable[[str], None] | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One run that is to be trained, alone or together with others.

    Attributes:
        directory: its folder, made for this recipe.
        experiment: built from the run's recipe with `splits_of_training`.
        argv: the command, for the manifest.
        progress: what to call on the way.
        with_probe: whether the result has the linear probe on features; a study, which shows none, leaves it out.
    """

    directory: RunDirectory
    experiment: Experiment
    argv: list[str]
    progress: Progress = Progress()
    with_probe: bool = True
