"""What is measured, and the check that all of it gives the same meta-gradient."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mamlcli.bench.cases import CASES, problem_of
from mamlcli.bench.implementations import (
    AUTO,
    Agreement,
    Implementation,
    difference_of_norms,
    implementations,
    num_checked_tasks,
    own_threads,
    prepared,
    strict_difference,
)
from mamlcli.bench.peers import JAX, PLAIN_LOOP
from tests.helpers.benches import SAME, SMALL_CASES, TINY_CASE
from tests.helpers.numerics import DOUBLE


def test_what_a_recipe_refuses_is_left_out_with_a_line(monkeypatch):
    case = dataclasses.replace(TINY_CASE, memory_modes=True)
    refusing = ("inner.no_such_key=constant",)
    original = problem_of

    def refused(case, *, extra=(), **options):
        return original(case, extra=refusing if extra == ("inner.memory=constant",) else extra, **options)

    monkeypatch.setattr("mamlcli.bench.implementations.problem_of", refused)
    measured, left_out = implementations(case, device="cpu")
    assert "mamlcli constant" not in [implementation.name for implementation in measured]
    assert len(left_out) == 1
    assert left_out[0].startswith("tiny: mamlcli constant is left out: command line: inner.no_such_key")


@pytest.mark.parametrize("name", SMALL_CASES)
def test_agreement_holds_for_everything_that_is_measured(name):
    agreement = Agreement.of(SMALL_CASES[name], device="cpu", num_tasks=2)
    measured, _ = implementations(SMALL_CASES[name], device="cpu")
    assert len(measured) >= 3
    for implementation in measured:
        if implementation.name == JAX:  # takes long to compile; its tests are those of extras
            continue
        differences = agreement.differences(implementation)
        assert differences.float64 < SAME, implementation.name
        # Float32 has 1e-7 of rounding; kinks of ReLUs that it crosses weigh more, and are few in tiny networks.
        assert 0 < differences.float32 < 1e-2, implementation.name


@pytest.mark.parametrize("name", CASES)
def test_the_peers_have_the_problem_of_each_case_as_its_recipe_ships_now(name):
    """A key that a recipe gets later, and that peers know nothing of, is seen here: they must agree on every case."""
    case = dataclasses.replace(CASES[name], overrides=(*CASES[name].overrides, "inner.steps=2"))
    agreement = Agreement.of(case, device="cpu", num_tasks=1)
    assert agreement.differences(Implementation(AUTO)).float64 < SAME


def test_agreement_sees_a_wrong_meta_gradient():
    problem = problem_of(SMALL_CASES["kfo"], device="cpu", dtype=DOUBLE, num_tasks=1)
    right = prepared(Implementation(PLAIN_LOOP), problem)()
    for name in ("model/head.0.weight", "transform/body.0.norm.bias/left"):
        wrong = {**right, name: right[name] * (1 + 1e-5)}
        assert strict_difference(wrong, right) > SAME
    assert strict_difference({}, right) == float("inf")
    assert strict_difference({**right, "model/head.0.weight": right["model/head.0.weight"] * float("nan")}, right) != 0


def test_differences_are_those_computed_by_hand():
    expected = {"a": torch.tensor([100.0, 0.0]), "b": torch.tensor([0.0, 1e-3])}
    measured = {"a": torch.tensor([103.0, 0.0]), "b": torch.tensor([0.0, 5e-3])}
    assert difference_of_norms({"a": torch.tensor([103.0, 4.0]), "b": expected["b"]}, expected) == pytest.approx(0.05)
    # a: 3 of 100. b is tiny beside a, so its error 4e-3 is measured against a thousandth of 100.
    assert strict_difference(measured, expected) == pytest.approx(max(3 / 100, 4e-3 / 0.1))


def test_large_cases_are_checked_on_their_first_tasks():
    assert num_checked_tasks(2e11, 16) == 16
    assert num_checked_tasks(2e11, 600) == 16
    assert num_checked_tasks(2.1e11, 16) == 4
    assert num_checked_tasks(2.1e11, 2) == 1


def test_a_peer_may_use_one_thread_or_all_and_ours_what_a_run_gets():
    peer = Implementation(PLAIN_LOOP)
    assert own_threads(peer, TINY_CASE, device="cpu", all_threads=3) == [1, 3]
    assert own_threads(peer, TINY_CASE, device="cpu", all_threads=1) == [1]
    single = Implementation(AUTO, ("execution.threads=1",))
    assert own_threads(single, TINY_CASE, device="cpu", all_threads=3) == [1]
