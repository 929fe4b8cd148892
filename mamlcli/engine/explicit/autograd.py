"""Let autograd differentiate through what `TaskNetwork` computes: gradients, gradient steps and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mamlcli.engine.explicit.network import ForwardPass, GradientPass, TaskNetwork


class _GradientContext(Protocol):
    """What autograd carries from the forward pass of `LossGradient` to its backward pass."""

    network: TaskNetwork
    gradient_pass: GradientPass
    needs_input_grad: tuple[bool, ...]


class LossGradient(torch.autograd.Function):
    """Maps (flat parameters, prepared inputs, targets) to the gradient of each task's loss; differentiable once."""

    @staticmethod
    def forward(ctx: _GradientContext, network: TaskNetwork, flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        gradients, ctx.gradient_pass = network.gradient(network.layout.views(flat.detach()), x.detach(), y)
        ctx.network = network
        return _joined(gradients)

    @staticmethod
    @once_differentiable
    def backward(ctx: _GradientContext, v: Tensor) -> tuple[None, Tensor, Tensor | None, None]:
        views = ctx.network.layout.views(v)
        products, x = ctx.network.hessian_vector(ctx.gradient_pass, views, ctx.needs_input_grad[2])
        return None, _joined(products), x, None


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors in the order of a layout as one vector for each task."""
    return torch.cat([value.flatten(1) for value in tensors], dim=1)


class _StepContext(Protocol):
    """What autograd carries from the forward pass of `GradientStep` to its backward pass."""

    network: TaskNetwork
    gradient_pass: GradientPass | None
    lr: float
    needs_input_grad: tuple[bool, ...]


class GradientStep(torch.autograd.Function):
    """Maps (prepared inputs, targets, rate, parameters) to the parameters after a gradient step; differentiable once.

    The parameters are tensors in the order of the network's layout. With `first_order` the gradient is a constant, and
    the derivative with respect to the parameters is the identity.
    """

    @staticmethod
    def forward(
        ctx: _StepContext, network: TaskNetwork, x: Tensor, y: Tensor, lr: float, first_order: bool, *values: Tensor
    ) -> tuple[Tensor, ...]:
        stepped, gradient_pass = network.step([value.detach() for value in values], x.detach(), y, lr)
        ctx.network, ctx.lr, ctx.gradient_pass = network, lr, None if first_order else gradient_pass
        return tuple(stepped)

    @staticmethod
    @once_differentiable
    def backward(ctx: _StepContext, *v: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradient_pass is None:
            return None, None, None, None, None, *v
        values, x = ctx.network.step_vector(ctx.gradient_pass, v, ctx.lr, ctx.needs_input_grad[1])
        return None, x, None, None, None, *values


class _FeaturesContext(Protocol):
    """What autograd carries from the forward pass of `Features` to its backward pass."""

    network: TaskNetwork
    forward_pass: ForwardPass
    needs_input_grad: tuple[bool, ...]


class Features(torch.autograd.Function):
    """Maps (prepared inputs, parameters in the order of the network's layout) to outputs; differentiable once."""

    @staticmethod
    def forward(ctx: _FeaturesContext, network: TaskNetwork, x: Tensor, *values: Tensor) -> Tensor:
        y, ctx.forward_pass = network.features([value.detach() for value in values], x.detach())
        ctx.network = network
        # Some layers save their output: as an alias, or the output would hold its own graph alive.
        return y.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: _FeaturesContext, gy: Tensor) -> tuple[Tensor | None, ...]:
        values, x = ctx.network.pull_back(ctx.forward_pass, gy, ctx.needs_input_grad[1])
        return None, x, *values
