"""What a chunk's outputs depend on, and the copies that its tasks have of the meta-parameters."""

import torch

from mamlcli.engine.explicit.chunk_problem import ChunkProblem, beside, each_per_task, per_task, repeated
from mamlcli.engine.explicit.flat_transform import FAST
from mamlcli.engine.explicit.layout import Layout
from mamlcli.engine.explicit.network import TaskNetwork
from mamlcli.engine.networks import mlp
from tests.helpers.numerics import normal

LAYOUT = Layout(("conv.weight", "bias"), ((2, 3, 3, 3), (2,)))


def model(*leading):
    return {name: normal(*leading, *shape, key=name) for name, shape in zip(LAYOUT.names, LAYOUT.shapes, strict=True)}


def test_every_task_has_the_parameters_as_one_vector_or_each_by_itself():
    vectors = per_task(LAYOUT, model(), 5)
    weight, bias = each_per_task(LAYOUT, model(), 5)
    assert weight.shape == (5, 2, 3, 3, 3)
    assert torch.equal(torch.cat([weight.flatten(1), bias], dim=1), vectors)
    assert torch.equal(vectors[0], vectors[4])


def test_every_run_gives_its_parameters_to_its_share_of_the_tasks():
    stacked = model(2)
    for values in (each_per_task(LAYOUT, stacked, 6)[1], per_task(LAYOUT, stacked, 6)[:, -2:]):
        assert torch.equal(values, stacked["bias"].repeat_interleave(3, dim=0))
    assert torch.equal(repeated(normal(4), 3, None), normal(4).expand(3, 4))


def test_no_parameters_are_an_empty_vector():
    assert per_task(Layout((), ()), model(), 5).shape == (5, 0)


def test_values_come_from_the_vector_and_what_does_not_adapt_or_are_the_fast_weights_themselves():
    network = TaskNetwork(mlp((4,), 2, depth=1, width=3), part="all", first=(), device_type="cpu")
    flat = normal(5, sum(network.layout.sizes))
    fast, rest = flat[:, :15], flat[:, 15:]
    problem = ChunkProblem(network, {FAST: fast}, rest, normal(5, 2, 4), normal(5, 3, 4), None)
    found = problem.values({FAST: fast}, problem.context)
    assert all(torch.equal(*pair) for pair in zip(found, network.layout.views(flat), strict=True))
    named = dict(zip(network.layout.names, found, strict=True))
    assert all(a is b for a, b in zip(problem.values(named, {}), found, strict=True))
    assert beside(fast, rest[:, :0]) is fast
