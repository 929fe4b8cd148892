"""Which cells of a study share a job, and how each of them ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from mamlcli.build import build
from mamlcli.execution import NUMBERS_WORTH_THREADS
from mamlcli.models import activation_size, count_parameters
from mamlcli.pool import Outcome
from mamlcli.recipe import Recipe, SyntheticKeys

# Between the names of the cells that one job has.
_AND = " + "


def can_share(recipe: Recipe) -> bool:
    """Return whether runs of this recipe are so small that training several at once pays.

    That is so for synthetic tasks on the explicit path of the CPU, where the activations and parameters of a
    meta-batch are fewer than what a thread of its own would pay for. Depends on shapes alone.
    """
    if not isinstance(recipe.tasks, SyntheticKeys) or recipe.execution.compile is True:
        return False
    experiment = build(recipe, splits=("train",))
    if experiment.device.type != "cpu":
        return False
    how = experiment.execution(num_tasks=recipe.outer.tasks, num_steps=recipe.inner.steps)
    num_parameters = count_parameters(dict(experiment.network.named_parameters()))
    numbers = activation_size(experiment.network) * recipe.tasks.shots + num_parameters
    return how.path == "explicit" and numbers * recipe.outer.tasks < NUMBERS_WORTH_THREADS


def group_sizes(num_runs: int, num_values: int, num_workers: int) -> list[int]:
    """Return how many runs of one axis value are trained together in each job.

    As many as can be while the jobs of all values still spread evenly over the processes: with one value, 8 seeds
    and 2 processes 4 and 4; with two values 8.
    """
    num_jobs = min(num_workers // math.gcd(num_values, num_workers), num_runs)
    smaller, larger = divmod(num_runs, num_jobs)
    return [smaller + (job < larger) for job in range(num_jobs)]


def joined_key(names: Iterable[str]) -> str:
    """Return the key of a job that has these cells."""
    return _AND.join(names)


def cell_names(key: str) -> list[str]:
    """Return the names of the cells of a job."""
    return key.split(_AND)


def cell_outcomes(outcome: Outcome, *, is_done: Callable[[str], bool]) -> list[Outcome]:
    """Return the outcome of each cell of a job; each took its share of the time.

    Args:
        outcome: of the job.
        is_done: whether a cell, by its name, is done: some are, though the job ended before its end.
    """
    names = cell_names(outcome.key)
    if len(names) == 1:
        return [outcome]
    failed = outcome.value.get("failed", {})
    wall_s = outcome.wall_s / len(names)
    found = []
    for name in names:
        part = replace(outcome, key=name, value={}, wall_s=wall_s)
        if name in failed:
            part = replace(part, status="failed", **failed[name])
        elif part.status != "done" and is_done(name):
            part = Outcome(name, "done", attempts=outcome.attempts, wall_s=wall_s)
        found.append(part)
    return found
