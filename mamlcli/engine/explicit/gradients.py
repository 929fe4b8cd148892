"""Hold the gradients of a layer's parameters, those of weight matrices as products that are not multiplied out."""

from __future__ import annotations

from collections.abc import Sequence
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


def all_plus(values: Sequence[Tensor], gradients: Sequence[Gradient], factor: float) -> list[Tensor]:
    """Return tensors [num_tasks, *shape] plus `factor` times the gradients of parameters of those shapes."""
    # Tensors are added by one call for all: with a call for each, threads wait for the interpreter.
    pairs = [
        (value, of_value) for value, of_value in zip(values, gradients, strict=True) if isinstance(of_value, Tensor)
    ]
    added = iter(
        torch._foreach_add([value for value, _ in pairs], [g for _, g in pairs], alpha=factor) if pairs else ()
    )
    return [
        _plus_product(value, gradient, factor) if isinstance(gradient, Product) else next(added)
        for value, gradient in zip(values, gradients, strict=True)
    ]


def _plus_product(value: Tensor, product: Product, factor: float) -> Tensor:
    (a, b), *rest = product.terms
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
