"""The first block of a network over many tasks: values, first and second derivatives are torch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mamlcli.engine.explicit.convolution import TaskConv
from mamlcli.engine.explicit.input_block import TaskInputBlock, TaskInputBlockMean
from mamlcli.engine.networks import NORM_EPSILON
from tests.helpers.numerics import derivative_along, normal

NAMES = ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}


def block(stride, kind=TaskInputBlock):
    return kind(NAMES, TaskConv(NAMES[:2], stride, is_unfolded=True, has_bias=False))


def images_and_parameters(num_channels):
    """Return images of two tasks that are far from a mean of zero, and parameters of each task."""
    x = 3 + normal(2, 3, 6, 5, num_channels, key="x")
    weight = normal(2, 4, 3, 3, num_channels, key="weight")
    others = [normal(2, 4, key=name) for name in NAMES[1:]]
    return x, (weight, *others)


def reference(p, x, stride, kind):
    def of_task(weight, bias, scale, shift, images):
        v = functional.conv2d(images.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2), bias, stride, 1)
        y = functional.batch_norm(v, None, None, scale, shift, training=True, eps=NORM_EPSILON).relu()
        return y.mean((2, 3)) if kind is TaskInputBlockMean else y.permute(0, 2, 3, 1)

    return torch.stack([of_task(*(part[i] for part in p), images) for i, images in enumerate(x)])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("kind", [TaskInputBlock, TaskInputBlockMean])
def test_input_block_and_its_derivatives_are_torchs(stride, num_channels, kind):
    x, p = images_and_parameters(num_channels)
    layer = block(stride, kind)
    y, saved = layer.forward(p, layer.prepared(x))
    torch.testing.assert_close(y, reference(p, x, stride, kind), **TOLERANCE)

    def pulled_back(*inputs):
        *parameters, gy = inputs
        tracked = [value if value.requires_grad else value.clone().requires_grad_(True) for value in parameters]
        return torch.autograd.grad(reference(tracked, x, stride, kind), tracked, gy, create_graph=True)

    gy, dgy = normal(*y.shape, key="gradient"), normal(*y.shape, key="direction of the gradient")
    dp = tuple(normal(*part.shape, key=f"direction {i}") for i, part in enumerate(p))
    gx, gp = layer.backward(p, saved, gy, False)
    assert gx is None
    torch.testing.assert_close(gp[:4], pulled_back(*p, gy), **TOLERANCE)

    dy, moved = layer.tangent(p, dp, saved, None)
    torch.testing.assert_close(dy, derivative_along(lambda *at: reference(at, x, stride, kind), p, dp), **TOLERANCE)
    _, dgp = layer.tangent_backward(p, dp, saved, moved, gy, gp, dgy, False)
    expected = derivative_along(pulled_back, (*p, gy), (*dp, dgy))
    torch.testing.assert_close(dgp, tuple(expected), **TOLERANCE)


def test_channel_of_constant_images_has_no_variance_and_a_finite_gradient():
    _, p = images_and_parameters(1)
    layer = block(2)
    y, saved = layer.forward(p, layer.prepared(torch.zeros(2, 3, 6, 5, 1, dtype=torch.float64)))
    torch.testing.assert_close(y, p[3][:, None, None, None].relu().expand_as(y))
    _, gp = layer.backward(p, saved, torch.ones_like(y), False)
    assert all(value.isfinite().all() for value in gp)


def test_gradient_of_the_images_is_not_taken_for_zero():
    x, p = images_and_parameters(1)
    layer = block(2)
    y, saved = layer.forward(p, layer.prepared(x))
    with pytest.raises(AssertionError, match="the images are given"):
        layer.backward(p, saved, y, True)
