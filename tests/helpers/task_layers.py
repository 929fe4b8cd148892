"""The check of a layer over many tasks: values, first and second derivatives, against those that torch takes."""

import torch

from mamlcli.engine.explicit.gradients import multiplied_out
from tests.helpers.numerics import derivative_along, normal

# Sums of at most some hundred terms of size one in another order: rounding alone.
TOLERANCE = {"rtol": 1e-11, "atol": 1e-11}


def assert_layer_computes(layer, reference, parameters, x, *, without_input=True):
    """Check a layer's four methods against a plain function of one task.

    Args:
        layer: the layer.
        reference: (parameters of one task, x of one task) -> y.
        parameters: each [num_tasks, ...], in the order of the layer's names.
        x: [num_tasks, n, ...].
        without_input: whether the layer may come first, where its input is fixed.
    """

    def together(*inputs):
        *p, tasks = inputs
        return torch.stack([reference(tuple(part[i] for part in p), task) for i, task in enumerate(tasks)])

    def pulled_back(*inputs):
        *tracked, gy = inputs
        tracked = [value if value.requires_grad else value.clone().requires_grad_(True) for value in tracked]
        gradients = torch.autograd.grad(together(*tracked), tracked, gy, create_graph=True)
        return tuple(gradients)

    point = (*parameters, x)
    dp = tuple(normal(*part.shape, key=f"direction {i}") for i, part in enumerate(parameters))
    dx = normal(*x.shape, key="direction of x")
    y, saved = layer.forward(parameters, x.clone())
    torch.testing.assert_close(y, together(*point), **TOLERANCE)

    gy, dgy = normal(*y.shape, key="gradient"), normal(*y.shape, key="direction of the gradient")
    gx, gp = layer.backward(parameters, saved, gy.clone(), True)
    torch.testing.assert_close((*map(multiplied_out, gp), gx), pulled_back(*point, gy), **TOLERANCE)

    for is_moving in (True, False) if without_input else (True,):
        along = dx if is_moving else torch.zeros_like(dx)
        dy, moved = layer.tangent(parameters, dp, saved, dx.clone() if is_moving else None)
        expected = derivative_along(together, point, (*dp, along))
        torch.testing.assert_close(torch.zeros_like(y) if dy is None else dy, expected, **TOLERANCE)
        dgx, dgp = layer.tangent_backward(parameters, dp, saved, moved, gy.clone(), gp, dgy.clone(), is_moving)
        *expected_dgp, expected_dgx = derivative_along(pulled_back, (*point, gy), (*dp, along, dgy))
        torch.testing.assert_close(tuple(map(multiplied_out, dgp)), tuple(expected_dgp), **TOLERANCE)
        if is_moving:
            torch.testing.assert_close(dgx, expected_dgx, **TOLERANCE)
