"""Adapt the weights of a first linear layer within the span of the support inputs; derivatives are written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mamlcli.engine.explicit.gradients import Gradients, Product
from mamlcli.engine.explicit.layers import Saved, TaskFlatten, TaskLayer, TaskLinear, Tensors


@dataclass(frozen=True)
class TaskInputLinear:
    """Computes y = x W^T + b of inputs that are given, where W takes gradient steps on one support set.

    The gradient of W is gy^T X, with X the support inputs, [n, in]. So after any number of steps, each of the same
    rate for all of W, it is W_0 + S^T X with a matrix S, [n, out], that starts at zero and moves by gy where W moves
    by gy^T X. With the outputs x W_0^T of the start, and the products x X^T, both computed once,

        y = x W_0^T + (x X^T) S + b

    has the cost of n inputs of a task, where W has that of its `in`. A step of rate alpha takes S to S - alpha gy(S),
    and its derivative takes a vector v to v - alpha (X X^T) d, with d the derivative of gy along the direction in
    which y moves by v itself. This is why `tangent` moves y by the direction of S.

    The parameter S stands in place of W, under its name, [num_tasks, n, out]; the inputs are those of `span_inputs`.
    """

    names: tuple[str, ...]

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        start, products = _parts(p, x)
        y = torch.baddbmm(start, products, p[0])
        return y if len(p) == 1 else y.add_(p[1].unsqueeze(1)), Saved((x,), x.shape)

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Gradients]:
        _, products = _parts(p, saved.tensors[0])
        of_s = Product(((products, gy),))
        # The products of inputs are given, and have no gradient.
        gx = functional.pad(gy, (0, products.shape[-1])) if with_input else None
        return gx, (of_s,) if len(p) == 1 else (of_s, gy.sum(1))

    def update(self, gy: Tensor, gp: Gradients) -> Gradients:
        """Return what S and b move by in a gradient step of W and b: the gradient of the support outputs, and of b."""
        return (gy, *gp[1:])

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor, Tensors]:
        assert dx is None, "the inputs are given"
        return dp[0] if len(p) == 1 else dp[0] + dp[1].unsqueeze(1), ()

    def tangent_backward(
        self,
        p: Tensors,
        dp: Tensors,
        saved: Saved,
        moved: Tensors,
        gy: Tensor,
        gp: Gradients,
        dgy: Tensor,
        with_input: bool,
    ) -> tuple[Tensor | None, Gradients]:
        return self.backward(p, saved, dgy, with_input)


def _parts(p: Tensors, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x W_0^T and x X^T, which stand side by side."""
    num_outputs = p[0].shape[-1]
    return x[..., :num_outputs], x[..., num_outputs:]


def span_inputs(weight: Tensor, support_x: Tensor, x: Tensor) -> Tensor:
    """Return what `TaskInputLinear` takes of inputs x: x W_0^T and x X^T side by side, [num_tasks, m, out + n].

    Args:
        weight: W_0, [out, in], or [num_runs, out, in] where each run has its share of the tasks.
        support_x: X, [num_tasks, n, ...].
        x: [num_tasks, m, ...].
    """
    inputs, support = x.flatten(2), support_x.flatten(2)
    if weight.ndim == 2:
        start = functional.linear(inputs, weight)
    else:
        start = torch.bmm(inputs.reshape(len(weight), -1, inputs.shape[-1]), weight.mT).view(*x.shape[:2], -1)
    return torch.cat([start, torch.bmm(inputs, support.mT)], dim=-1)


def with_input_in_span(layers: Sequence[TaskLayer]) -> list[TaskLayer] | None:
    """Return layers of which the first, linear one is a `TaskInputLinear`; None where another layer comes first."""
    match layers:
        case [TaskLinear() as first, *rest] | [TaskFlatten(), TaskLinear() as first, *rest]:
            return [TaskInputLinear(first.names), *rest]
    return None
