"""Compute losses and accuracies of many tasks at once, and the derivatives of the losses."""

from __future__ import annotations

import torch
from torch import Tensor


def task_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return each task's `example_loss`, [num_tasks].

    Args:
        outputs: [num_tasks, n, num_outputs].
        targets: [num_tasks, n] int64 or [num_tasks, n, 1] float.
    """
    if targets.dtype == torch.int64:
        is_short = outputs.shape[-1] <= FEW_CLASSES
        logs = outputs.mT.contiguous().log_softmax(1).mT if is_short else outputs.log_softmax(-1)
        return -logs.gather(-1, targets.unsqueeze(-1)).squeeze(-1).mean(1)
    return 0.5 * (outputs - targets).square().sum(-1).mean(1)


def task_accuracies(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return each task's `accuracy`, [num_tasks]."""
    if targets.dtype == torch.int64:
        return (outputs.argmax(-1) == targets).to(outputs.dtype).mean(1)
    return outputs.new_full(outputs.shape[:1], float("nan"))


# Up to this many classes, a softmax along the strided dimension of classes put before the inputs is faster than one
# along a contiguous dimension so short.
FEW_CLASSES = 4


def loss_gradient(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the gradient of each task's `example_loss` with respect to its outputs, and the class probabilities.

    Args:
        outputs: [num_tasks, n, num_outputs].
        targets: [num_tasks, n] int64 or [num_tasks, n, 1] float.

    Returns:
        The gradient, and the probabilities as `loss_gradient_tangent` takes them; None for regression.
    """
    n, num_outputs = outputs.shape[1:]
    if targets.dtype == torch.int64:
        is_short = num_outputs <= FEW_CLASSES
        probabilities = outputs.mT.contiguous().softmax(1).mT.contiguous() if is_short else outputs.softmax(-1)
        minus_one = outputs.new_full((1, 1, 1), -1.0).expand(*targets.shape, 1)
        return probabilities.scatter_add(-1, targets.unsqueeze(-1), minus_one).div_(n), probabilities
    return (outputs - targets).div_(n), None


def loss_gradient_tangent(probabilities: Tensor | None, d_outputs: Tensor) -> Tensor:
    """Return how `loss_gradient` moves when the outputs move."""
    n = d_outputs.shape[1]
    if probabilities is None:
        return d_outputs / n
    if probabilities.shape[-1] <= FEW_CLASSES:
        along = probabilities * d_outputs
        return along.addcmul_(probabilities, along.sum(-1, keepdim=True), value=-1).div_(n)
    moved: Tensor = torch.ops.aten._softmax_backward_data(d_outputs, probabilities, -1, probabilities.dtype)
    return moved.div_(n)
