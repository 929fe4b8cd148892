"""The peers of the bench: each gives the meta-gradient of the same problem, to rounding."""

import builtins
import sys

import pytest
import torch

from mamlcli.bench import peers
from mamlcli.bench.cases import problem_of
from mamlcli.bench.implementations import (
    Implementation,
    implementations,
    prepared,
)
from mamlcli.bench.peer_problem import PeerProblem
from mamlcli.bench.peers import JAX, PEERS, PLAIN_LOOP, absent_peers, ordinary_module
from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import apply_network
from tests.helpers.benches import CONV, SAME, SMALL_CASES
from tests.helpers.numerics import DOUBLE, meta_gradient, relative_error

# JAX takes long to compile; its tests are those of extras.
EAGER = [peer for peer in PEERS if peer != JAX]


def installed(peer):
    """Skip a test of a peer that is not there; the plain loop always is."""
    if peer != PLAIN_LOOP:
        pytest.importorskip(peer.lower())
    return peer


@pytest.mark.parametrize("peer", EAGER)
@pytest.mark.parametrize("name", SMALL_CASES)
def test_peer_gives_our_meta_gradient(name, peer):
    problem = problem_of(SMALL_CASES[name], device="cpu", dtype=DOUBLE, num_tasks=3)
    expected = meta_gradient(problem.experiment.objective(), problem.meta, problem.episode, Execution("loop", 1))
    gradients = prepared(Implementation(installed(peer)), problem)()
    assert relative_error(gradients, expected.gradients) < SAME


@pytest.mark.parametrize("peer", EAGER)
def test_peer_computes_the_same_again_and_keeps_theta(peer):
    # What it changed in one call (fast weights, gradients) would show in the next.
    problem = problem_of(SMALL_CASES["kfo"], device="cpu", dtype=DOUBLE, num_tasks=2)
    before = {name: value.clone() for name, value in problem.meta.flat().items()}
    compute = prepared(Implementation(installed(peer)), problem)
    first = {name: value.clone() for name, value in compute().items()}
    second = compute()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(value, before[name]) for name, value in problem.meta.flat().items())


def test_ordinary_module_is_our_network():
    problem = problem_of(CONV, device="cpu", dtype=DOUBLE, num_tasks=1)
    module = ordinary_module(PeerProblem(problem.meta.model, {}, problem.episode, lr=0.1, num_steps=1, stride=2))
    x = problem.episode.query_x[0]
    expected = apply_network(problem.experiment.network, problem.meta.model, x)
    # The fused batch norm orders its sums differently.
    assert torch.allclose(module(x), expected, rtol=1e-10, atol=1e-12)


def test_a_peer_that_is_not_installed_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "higher", None)  # what `import higher` finds to be absent
    assert absent_peers()["higher"].startswith("higher is not installed")
    assert "pip install 'mamlcli[bench]'" in absent_peers()["higher"]
    measured, _ = implementations(CONV, device="cpu")
    assert "higher" not in [implementation.name for implementation in measured]
    assert PLAIN_LOOP in [implementation.name for implementation in measured]


def test_a_peer_that_fails_to_import_is_left_out_with_the_reason(monkeypatch):
    def broken(name):
        raise builtins.AttributeError(f"module 'torch' has no attribute 'of_old' ({name})")

    monkeypatch.setattr(peers.importlib, "import_module", broken)
    assert absent_peers()["TorchOpt"] == (
        "TorchOpt cannot be imported: AttributeError: module 'torch' has no attribute 'of_old' (torchopt)"
    )
