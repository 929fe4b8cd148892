"""What a peer is given."""

import torch

from mamlcli.bench.cases import problem_of
from mamlcli.bench.implementations import peer_problem
from mamlcli.bench.peer_problem import stacked
from tests.helpers.benches import SMALL_CASES


def test_a_peer_adapts_what_we_adapt():
    for name, case in SMALL_CASES.items():
        problem = problem_of(case, device="cpu", num_tasks=2)
        peer = peer_problem(problem)
        assert tuple(peer.adapted()) == problem.experiment.objective().inner.adapted, name
        assert peer.head_only == (name == "anil")
        assert peer.flat_names() == list(problem.meta.flat())


def test_tasks_are_stacked_as_they_came():
    problem = problem_of(SMALL_CASES["conv"], device="cpu", num_tasks=2)
    pairs = zip(stacked(peer_problem(problem).tasks()), problem.episode.data(), strict=True)
    assert all(torch.equal(found, expected) for found, expected in pairs)
