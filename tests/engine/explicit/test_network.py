"""A network over many tasks: outputs, gradients and Hessians times vectors are those that torch takes of each."""

import pytest
import torch
from torch.func import grad

from mamlcli.engine.explicit.layers import TaskReLU, TaskTanh
from mamlcli.engine.explicit.network import TaskNetwork
from mamlcli.engine.networks import apply_network, mlp
from mamlcli.engine.objective import example_loss
from tests.helpers.numerics import derivative_along, normal
from tests.helpers.problems import NETWORKS, NUM_TASKS, WAYS, problem

# Sums in another order, grown through a batch norm of few pixels.
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}
LR = 0.3
EVERY_NETWORK = pytest.mark.parametrize("name", NETWORKS)


def case(name):
    """Return (the network over tasks, flat parameters of each task, inputs, targets, outputs of flat parameters)."""
    objective, meta, episode = problem(NETWORKS[name]())
    network = TaskNetwork(objective.network, part="all", first=(), device_type="cpu")
    start = network.layout.flat(meta.model)
    flat = start + 0.1 * normal(NUM_TASKS, len(start), key="tasks")

    def outputs(values, x):
        parameters = [network.layout.tensors(vector) for vector in values]
        return torch.stack([apply_network(objective.network, p, task) for p, task in zip(parameters, x, strict=True)])

    return network, flat, episode.support_x, episode.support_y, outputs


def loss_gradients(outputs, x, y):
    """Return the gradient of each task's loss as a function of flat parameters."""
    return grad(lambda values: sum(example_loss(*task) for task in zip(outputs(values, x), y, strict=True)))


@EVERY_NETWORK
def test_outputs_are_those_of_each_task(name):
    network, flat, x, _, outputs = case(name)
    torch.testing.assert_close(
        network.outputs(network.layout.views(flat), network.prepared(x)), outputs(flat, x), **TOLERANCE
    )


def joined(tensors):
    """Return tensors in the order of a layout as one vector for each task."""
    return torch.cat([value.flatten(1) for value in tensors], dim=1)


@EVERY_NETWORK
def test_gradient_and_hessian_times_a_vector_are_torchs(name):
    network, flat, x, y, outputs = case(name)
    gradient_of, v = loss_gradients(outputs, x, y), normal(*flat.shape, key="v")
    found, saved = network.gradient(network.layout.views(flat), network.prepared(x), y)
    torch.testing.assert_close(joined(found), gradient_of(flat), **TOLERANCE)
    expected = derivative_along(gradient_of, [flat], [v])
    product, _ = network.hessian_vector(saved, network.layout.views(v), with_input=False)
    torch.testing.assert_close(joined(product), expected, **TOLERANCE)


@EVERY_NETWORK
def test_gradient_step_and_its_derivative_are_torchs(name):
    network, flat, x, y, outputs = case(name)
    gradient_of, v = loss_gradients(outputs, x, y), normal(*flat.shape, key="v")
    found, saved = network.step(network.layout.views(flat), network.prepared(x), y, LR)
    torch.testing.assert_close(joined(found), flat - LR * gradient_of(flat), **TOLERANCE)
    expected = v - LR * derivative_along(gradient_of, [flat], [v])
    pulled, _ = network.step_vector(saved, network.layout.views(v), LR, with_input=False)
    torch.testing.assert_close(joined(pulled), expected, **TOLERANCE)


def test_parameters_that_adapt_come_first_in_the_vector():
    network = mlp((4,), WAYS, depth=1, width=5)
    layout = TaskNetwork(network, part="all", first=("head.0.bias",), device_type="cpu").layout
    assert layout.names == ("head.0.bias", "body.0.weight", "body.0.bias", "head.0.weight")
    assert layout.shapes == ((WAYS,), (5, 4), (5,), (WAYS, 5))


def test_part_of_a_network_has_its_layers_alone():
    network = mlp((4,), WAYS, depth=1, width=5, activation="tanh")
    body, head = (TaskNetwork(network, part=part, first=(), device_type="cpu") for part in ("body", "head"))
    assert body.layout.names == ("body.0.weight", "body.0.bias")
    assert head.layout.names == ("head.0.weight", "head.0.bias")
    assert [type(layer) for layer in body.layers[1:]] == [TaskTanh]
    assert TaskReLU not in [type(layer) for layer in body.layers]
