"""Tuning: which ways of running tasks are measured, and what is stored."""

from mamlcli.bench.tuning import candidates
from mamlcli.engine.execution import Execution


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
