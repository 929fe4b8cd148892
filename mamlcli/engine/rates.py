"""Learned inner learning rates: for each parameter tensor, for each inner step, or both, around any transform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mamlcli.engine.networks import Params
from mamlcli.engine.transforms import GradientTransform

# Ends the names of the meta-parameters that are rates.
_RATE = "/rate"


@dataclass(frozen=True)
class LearnedRates:
    """Learns inner learning rates: U(g) = (rate / alpha) * U_inner(g), so that a step is phi - rate * U_inner(g).

    `<parameter name>/rate` is the rate itself, alpha at the start; nothing keeps it positive.

    Attributes:
        transform: U_inner; the identity in MAML.
        lr: alpha, the rate of the inner loop.
        is_per_tensor: whether each parameter tensor has rates of its own; else all share those named `*/rate`.
        num_steps: inner steps with a rate each, K; then rates are [K], and the last one holds after them. None where
            a rate is the same at all steps, [].

    Source: Antoniou et al. 2019, How to train your MAML, arXiv 1810.09502, section 4, learned rates (LSLR).
    Differs from the source: a rate for each tensor, as in its code, where the text has one for each layer; rates for
        steps alone, and for tensors alone; any transform within.
    """

    transform: GradientTransform
    lr: float
    is_per_tensor: bool
    num_steps: int | None

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        like = next(iter(params.values()))
        shape = () if self.num_steps is None else (self.num_steps,)
        names = params if self.is_per_tensor else ("*",)
        rates = {f"{name}{_RATE}": like.new_full(shape, self.lr) for name in names}
        return {**self.transform.init(params, seed), **rates}

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        updates = self.transform.apply(xi, gradients, step)
        return {name: self.scale(xi, name, step) * update for name, update in updates.items()}

    def split(self, xi: Mapping[str, Tensor]) -> tuple[Params, Params]:
        """Return the rates among the meta-parameters, and those of the transform within."""
        rates = {name: value for name, value in xi.items() if name.endswith(_RATE)}
        return rates, {name: value for name, value in xi.items() if name not in rates}

    def scale(self, xi: Mapping[str, Tensor], name: str, step: int) -> Tensor:
        """Return rate / alpha of a parameter at an inner step, []; with leading dimensions where xi has them."""
        rate = xi[f"{name if self.is_per_tensor else '*'}{_RATE}"]
        if self.num_steps is not None:
            rate = rate[..., min(step, self.num_steps - 1)]
        # By a tensor of the same kind: a number would be rounded, or inverted, and the quotient not 1 at the start.
        return rate / torch.full_like(rate, self.lr)


def with_rates(transform: GradientTransform, rates: str, *, lr: float, num_steps: int) -> GradientTransform:
    """Return a transform with the learned rates of `inner.rates`: fixed, tensor, step or tensor-step."""
    if rates == "fixed":
        return transform
    return LearnedRates(transform, lr, "tensor" in rates, num_steps if "step" in rates else None)
