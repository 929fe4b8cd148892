"""What autograd sees of a network over many tasks: gradients, gradient steps and outputs, differentiable once."""

import torch
from torch.func import vjp

from mamlcli.engine.explicit.autograd import Features, GradientStep, LossGradient
from tests.engine.explicit.test_network import EVERY_NETWORK, LR, TOLERANCE, case, joined, loss_gradients
from tests.helpers.numerics import derivative_along, normal
from tests.helpers.problems import NUM_TASKS, WAYS


def tracked_case(name):
    """Return `case`, with parameters that need a gradient and inputs as the network takes them."""
    network, flat, x, y, outputs = case(name)
    return network, flat, flat.clone().requires_grad_(True), x, network.prepared(x), y, outputs


@EVERY_NETWORK
def test_features_have_torchs_derivative(name):
    network, flat, tracked, x, inputs, _, outputs = tracked_case(name)
    gy = normal(NUM_TASKS, x.shape[1], WAYS, key="gy")
    found = Features.apply(network, inputs, *network.layout.views(tracked))
    (of_features,) = torch.autograd.grad(found, tracked, gy)
    torch.testing.assert_close(of_features, vjp(lambda values: outputs(values, x), flat)[1](gy)[0], **TOLERANCE)


@EVERY_NETWORK
def test_loss_gradient_has_torchs_derivative(name):
    network, flat, tracked, x, inputs, y, outputs = tracked_case(name)
    v = normal(*flat.shape, key="v")
    (of_gradient,) = torch.autograd.grad(LossGradient.apply(network, tracked, inputs, y), tracked, v)
    expected = derivative_along(loss_gradients(outputs, x, y), [flat], [v])
    torch.testing.assert_close(of_gradient, expected, **TOLERANCE)


@EVERY_NETWORK
def test_gradient_step_has_torchs_derivative_and_the_identity_in_first_order(name):
    network, flat, tracked, x, inputs, y, outputs = tracked_case(name)
    gradient_of, v = loss_gradients(outputs, x, y), normal(*flat.shape, key="v")
    for first_order, curvature in ((False, LR * derivative_along(gradient_of, [flat], [v])), (True, 0)):
        stepped = joined(GradientStep.apply(network, inputs, y, LR, first_order, *network.layout.views(tracked)))
        torch.testing.assert_close(stepped.detach(), flat - LR * gradient_of(flat), **TOLERANCE)
        (of_step,) = torch.autograd.grad(stepped, tracked, v)
        torch.testing.assert_close(of_step, v - curvature, **TOLERANCE)
