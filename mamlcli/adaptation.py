"""The inner loop, once, for everything: a task's support set and a transform -> fast weights.

MAML, FOMAML, ANIL, Meta-SGD, Meta-Curvature and KFO differ in which parameters move, which transform is applied and
how gradients flow; each is a setting of `InnerLoop`, and `adapt` is the only loop there is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from mamlcli.transforms import GradientTransform, Identity, Params

SupportLoss = Callable[[Params], Tensor]


@dataclass(frozen=True)
class InnerLoop:
    """What one task's adaptation does.

    Attributes:
        adapted: names of the parameters that move.
        lr: inner learning rate, alpha.
        num_steps: inner steps, K.
        first_order: take every inner gradient as a constant (FOMAML).
        transform: U_xi, the identity in MAML.
        adapt_transform: from the second step on, xi takes a gradient step on the support loss first.
        joint_features: where only the head adapts, pass support and query through the body in one batch, so that
            batch norm sees both (the release's ANIL); otherwise each set is normalised by itself.
    """

    adapted: tuple[str, ...]
    lr: float
    num_steps: int
    first_order: bool = False
    transform: GradientTransform = Identity()  # noqa: RUF009 - frozen and empty
    adapt_transform: bool = False
    joint_features: bool = False


@dataclass(frozen=True)
class Adaptation:
    """The result of an inner loop.

    Attributes:
        fast_weights: phi_K, the adapted parameters by name.
        observations: what `observe` returned at phi_0, ..., phi_K; empty without it.
    """

    fast_weights: Params
    observations: list[Any]


def adapt(
    support_loss: SupportLoss,
    params: Mapping[str, Tensor],
    xi: Mapping[str, Tensor],
    inner: InnerLoop,
    *,
    observe: Callable[[Params], Any] | None = None,
) -> Adaptation:
    """Adapt one task by K transformed gradient steps on its support loss.

    phi_0 = theta;  phi_{k+1} = phi_k - alpha * U_xi(g_k),  g_k = grad_phi L_S(phi_k).
    With `inner.adapt_transform`, for k >= 1 and before the weights move,
    xi_k = xi_{k-1} + alpha^2 * d/dxi < U_xi(g_{k-1}), g_k > at xi_{k-1}:
    the derivative of L_S(phi_k) with respect to the xi that made the last step, times -alpha.

    The result is differentiable with respect to `params` and `xi` (exactly, to any order), unless
    `inner.first_order`: then every g_k is a constant, while derivatives through U into xi remain.

    Args:
        support_loss: fast weights -> scalar loss.
        params: the initialisation; only the names in `inner.adapted` are used.
        xi: meta-parameters of the transform.
        inner: the settings.
        observe: called at phi_0, ..., phi_K.

    Returns:
        The fast weights and the observations.

    Source: Finn et al. 2017, arXiv 1703.03400, algorithm 1, lines 4 to 7; Arnold et al. 2021, section 4, for U_xi.
    No known deviation.
    """
    fast_weights = {name: params[name] for name in inner.adapted}
    current_xi = dict(xi)
    observations = [] if observe is None else [observe(fast_weights)]
    previous: Params | None = None
    for _ in range(inner.num_steps):
        gradients = _inner_gradients(support_loss, fast_weights, inner.first_order)
        if inner.adapt_transform and current_xi and previous is not None:
            current_xi = _adapted_xi(inner, current_xi, previous, gradients)
        updates = inner.transform.apply(current_xi, gradients)
        fast_weights = {name: value - inner.lr * updates[name] for name, value in fast_weights.items()}
        previous = gradients
        if observe is not None:
            observations.append(observe(fast_weights))
    return Adaptation(fast_weights, observations)


def _inner_gradients(support_loss: SupportLoss, fast_weights: Params, first_order: bool) -> Params:
    # In first order nothing of this gradient is differentiated again: recording its graph would be waste.
    with torch.no_grad() if first_order else contextlib.nullcontext():
        gradients: Params = grad(support_loss)(fast_weights)
    return {name: value.detach() for name, value in gradients.items()} if first_order else gradients


def _adapted_xi(inner: InnerLoop, xi: Params, previous: Params, gradients: Params) -> Params:
    """Return xi after a step of rate alpha on the support loss, whose xi-gradient is -alpha * the below."""

    def agreement(candidate: Params) -> Tensor:
        updates = inner.transform.apply(candidate, previous)
        return torch.stack([(updates[name] * gradients[name]).sum() for name in gradients]).sum()

    direction: Params = grad(agreement)(xi)
    return {name: value + inner.lr**2 * direction[name] for name, value in xi.items()}
