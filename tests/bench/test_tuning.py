"""Tuning: which ways of running tasks are measured, and what is stored."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from mamlcli.bench.timing import Runner
from mamlcli.bench.tuning import candidates, tune
from mamlcli.engine.execution import Execution
from mamlcli.recipe.files import load_recipe
from mamlcli.training.tuned import TimeSpread, load_tuned, tuned_path
from tests.helpers.plugins import ONE_FILE, POINTS, forget, install
from tests.helpers.running import TINY


def test_candidates_begin_with_auto_and_hold_the_loop_and_fitting_chunks():
    auto = Execution("explicit", 3, parallel=2)
    executions = candidates(auto, num_tasks=16)
    assert executions[0] == auto
    assert Execution("loop", 1) in executions
    assert sorted(e.chunk for e in executions if e.path == "batched") == [2, 4, 8, 16]
    explicit = [(e.chunk, e.parallel) for e in executions[1:] if e.path == "explicit"]
    assert explicit == [(size, parallel) for size in (1, 2, 4, 8) for parallel in (1, 2)] + [(16, 1)]
    assert len(executions) == len(set(executions))


def test_candidates_are_no_larger_than_memory_and_the_recipe_allow():
    executions = candidates(Execution("batched", 1), num_tasks=64)
    assert max(e.chunk for e in executions) == 8
    assert {e.path for e in candidates(Execution("explicit", 1), num_tasks=4, with_vmap=False)} == {"explicit", "loop"}


@pytest.fixture
def seconds_of_paths(monkeypatch):
    """Let every call of a candidate take the seconds of its path."""
    seconds = {"explicit": 1.0, "batched": 1.0, "loop": 1.0}
    called = []

    def meta_gradients(objective, metas, episode, execution, *, graphs):
        called.append(execution)
        return [SimpleNamespace(gradients={})]

    def seconds_of(runner, calls=1):
        runner.function()
        return seconds[called[-1].path]

    monkeypatch.setattr("mamlcli.bench.tuning.meta_gradients", meta_gradients)
    monkeypatch.setattr(Runner, "seconds", seconds_of)
    return seconds


def tuned(**changes):
    return tune("mine", load_recipe("linear-regression", TINY)[1], repeats=2, on_note=lambda line: None, **changes)


def test_the_fastest_is_chosen_and_found_again(seconds_of_paths):
    seconds_of_paths["batched"] = 0.9
    report = tuned()
    assert report.chosen.execution.path == "batched"
    assert report.chosen.seconds_per_meta_iteration == TimeSpread(0.9, 0.9, 0.9, 2)
    assert load_tuned(report.key) == dataclasses.replace(report.chosen, recipe="mine")
    assert (report.recipe, report.tasks, report.file) == ("mine", 2, tuned_path())


def test_what_is_far_slower_than_the_best_is_not_measured_again(seconds_of_paths):
    seconds_of_paths["loop"] = 1.4
    assert "loop" in {choice.execution.path for choice in tuned().candidates}
    seconds_of_paths["loop"] = 1.6
    assert "loop" not in {choice.execution.path for choice in tuned().candidates}


def test_a_stored_choice_is_no_candidate_by_itself(seconds_of_paths):
    # Else a second tuning would call `auto` what the first one chose.
    first, second = tuned(), tuned()
    assert [choice.execution for choice in first.candidates] == [choice.execution for choice in second.candidates]


def test_a_recipe_of_a_plugin_is_tuned_without_vmap_where_that_does_not_take_its_network(monkeypatch, tmp_path):
    recurrent = ONE_FILE.replace("nn.Tanh()", "Recurrent(keys.width)").replace("    from torch import nn\n", _RECURRENT)
    install(monkeypatch, tmp_path / "site", recurrent, **POINTS)
    recipe = load_recipe("sinusoid", ["model={kind: net}", "inner.steps=1", "outer.tasks=2"])[1]
    report = tune("sinusoid", recipe, repeats=1, on_note=lambda line: None)
    forget()
    assert {choice.execution.path for choice in report.candidates} == {"loop"}


_RECURRENT = """    from torch import nn

    class Recurrent(nn.LSTM):
        def __init__(self, width):
            super().__init__(width, width, batch_first=True)

        def forward(self, x):
            return super().forward(x[:, None])[0][:, 0]
"""
