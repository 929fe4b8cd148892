"""What is measured, and the check that all of it gives the same meta-gradient."""

import dataclasses

import pytest

from mamlcli.bench.cases import problem_of
from mamlcli.bench.implementations import (
    Agreement,
    Implementation,
    implementations,
    prepared,
    strict_difference,
)
from mamlcli.bench.peers import PLAIN_LOOP
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
        differences = agreement.differences(implementation)
        assert differences.float64 < SAME, implementation.name
        # Float32 has 1e-7 of rounding; kinks of ReLUs that it crosses weigh more, and are few in tiny networks.
        assert 0 < differences.float32 < 1e-2, implementation.name


def test_agreement_sees_a_wrong_meta_gradient():
    problem = problem_of(SMALL_CASES["kfo"], device="cpu", dtype=DOUBLE, num_tasks=1)
    right = prepared(Implementation(PLAIN_LOOP), problem)()
    for name in ("model/head.0.weight", "transform/body.0.norm.bias/left"):
        wrong = {**right, name: right[name] * (1 + 1e-5)}
        assert strict_difference(wrong, right) > SAME
    assert strict_difference({}, right) == float("inf")
    assert strict_difference({**right, "model/head.0.weight": right["model/head.0.weight"] * float("nan")}, right) != 0
