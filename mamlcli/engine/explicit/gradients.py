"""Hold the gradients of a layer's parameters, those of weight matrices as products that are not multiplied out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Product(NamedTuple):
    """The gradient of a matrix of weights, for each task: the sum of a^T b over `terms`.

    Multiplied as it is added to another matrix, it never needs one of its own.

    Attributes:
        terms: pairs (a, b), [num_tasks, n, out] and [num_tasks, n, in]; one or more.
    """

    terms: tuple[tuple[Tensor, Tensor], ...]


Gradient = Tensor | Product
Gradients = tuple[Gradient, ...]


def plus(value: Tensor, gradient: Gradient, factor: float) -> Tensor:
    """Return a tensor [num_tasks, *shape] plus `factor` times the gradient of a parameter of that shape."""
    if not isinstance(gradient, Product):
        return torch.add(value, gradient, alpha=factor)
    (a, b), *rest = gradient.terms
    total = torch.baddbmm(value, a.mT, b, alpha=factor)
    for a, b in rest:
        total.baddbmm_(a.mT, b, alpha=factor)
    return total


def multiplied_out(gradient: Gradient) -> Tensor:
    """Return the gradient of a parameter as a tensor, [num_tasks, *shape]."""
    if not isinstance(gradient, Product):
        return gradient
    (a, b), *rest = gradient.terms
    total = torch.bmm(a.mT, b)
    for a, b in rest:
        total.baddbmm_(a.mT, b)
    return total
