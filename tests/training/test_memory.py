"""Memory: what no machine has is refused before it is taken, and what a machine has is not."""

from __future__ import annotations

import time

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.recipe.files import load_recipe
from mamlcli.training import memory
from mamlcli.training.dry_run import dry_run
from mamlcli.training.experiment import build

TINY = ("outer.tasks=2", "evaluation.tasks=2", "validation.every=null", "tasks.shots=2", "tasks.queries=2")


def recipe_of(name, *changes):
    return load_recipe(name, [*TINY, *changes])[1]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (("model.depth=20", "model.width=100000"), "the weights"),
        (("model.linear_layers=20", "model.linear_width=50000"), "the weights"),
        (("outer.tasks=100000", "tasks.queries=1000000"), "the tasks of a meta-batch"),
        (("inner.steps=100000", "tasks.shots=100000"), "the inner steps of one task"),
    ],
)
def test_what_no_machine_has_is_refused_in_a_moment(changes, part):
    started = time.perf_counter()
    with pytest.raises(MamlError, match=f"^memory: expected at least .* GB.*{part}"):
        build(recipe_of("sinusoid", *changes), splits=("train", "test"))
    assert time.perf_counter() - started < 30


def test_a_recipe_that_needs_one_byte_more_than_there_is_is_refused(monkeypatch):
    recipe = recipe_of("sinusoid", "execution.device=cpu")
    experiment = build(recipe, splits=("train", "test"))
    adapted = experiment.objective().inner.adapted
    least = sum(memory.least_bytes(recipe, experiment.network, adapted, 0, dtype=experiment.dtype).values())
    monkeypatch.setattr(memory, "memory_bytes", lambda: least)
    build(recipe, splits=("train", "test"))
    monkeypatch.setattr(memory, "memory_bytes", lambda: least - 1)
    with pytest.raises(MamlError, match="memory: expected at least"):
        build(recipe, splits=("train", "test"))


def test_a_dry_run_of_very_many_tasks_and_steps_takes_seconds(one_thread):
    few = dry_run(recipe_of("linear-regression", "inner.steps=1", "outer.tasks=500"))
    started = time.perf_counter()
    many = dry_run(recipe_of("linear-regression", "inner.steps=1", "outer.tasks=100000"))
    assert time.perf_counter() - started < 30
    assert many.seconds_per_iteration > 20 * few.seconds_per_iteration
