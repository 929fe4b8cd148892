"""The peer in JAX gives our meta-gradient and our scores: `make test-extras`."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mamlcli.bench.cases import EVALUATION, ITERATION, problem_of
from mamlcli.bench.implementations import Agreement, Implementation, timed
from mamlcli.bench.peers import JAX
from mamlcli.bench.traffic import traffic_counted
from tests.helpers.benches import SAME, SMALL_CASES, TINY_CASE
from tests.helpers.numerics import DOUBLE

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("jax", reason="the package jax is not installed (extra bench-jax)")


def shorter(name):
    """A small case that compiles in seconds."""
    case = SMALL_CASES[name]
    return dataclasses.replace(case, overrides=(*case.overrides, "inner.steps=2", "model.depth=1"))


@pytest.mark.parametrize("name", ["conv", "kfo", "anil", "linear"])
def test_it_gives_the_meta_gradient_of_a_plain_loop(name):
    case = shorter(name) if name != "linear" else SMALL_CASES[name]
    differences = Agreement.of(case, device="cpu", num_tasks=2).differences(Implementation(JAX))
    assert differences.float64 < SAME
    assert 0 < differences.float32 < 1e-2


def test_it_gives_the_scores_of_a_plain_loop():
    case = dataclasses.replace(TINY_CASE, kind=EVALUATION, tasks=3)
    assert Agreement.of(case, device="cpu", num_tasks=3).differences(Implementation(JAX)).float64 < SAME


def test_an_iteration_takes_steps_and_its_bytes_are_counted():
    case = dataclasses.replace(TINY_CASE, kind=ITERATION, shots=1, tasks=2)
    problem = problem_of(case, device="cpu", dtype=DOUBLE)
    iterate = timed(Implementation(JAX), problem)
    first = {name: value.detach().clone() for name, value in iterate().items()}
    with traffic_counted() as traffic:
        second = iterate()
    assert not torch.equal(first["head.0.bias"], second["head.0.bias"])
    assert traffic.num_bytes > 3 * sum(value.nbytes for value in first.values())
