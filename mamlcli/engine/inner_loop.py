"""The inner loop adapts parameters to the support set of a task: a support loss and a transform -> fast weights.

MAML, FOMAML, ANIL, Meta-SGD, Meta-Curvature and KFO differ in which parameters move, which transform is applied and
how gradients flow; each is a setting of `InnerLoop`, and `_unrolled` is the only loop there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import grad

from mamlcli.engine.networks import Params
from mamlcli.engine.transforms import GradientTransform, Identity

SupportLoss = Callable[[Params], Tensor]


# (fast weights, context) -> gradients by the fast weights' names. The context holds what else they depend on and is
# differentiated itself: parameters that do not adapt, features.
SupportGradient = Callable[[Params, Params], Params]


# (fast weights, context) -> the fast weights after a step of rate alpha along their untransformed gradient.
PlainStep = Callable[[Params, Params], Params]


# (fast weights, context) -> what is observed of them.
Observe = Callable[[Params, Params], Tensor]


@dataclass(frozen=True)
class InnerLoop:
    """Settings of one task's adaptation.

    Attributes:
        adapted: names of the parameters that move.
        lr: inner learning rate, alpha.
        num_inner_steps: inner steps, K.
        first_order: take every inner gradient as a constant (FOMAML).
        transform: U_xi, the identity in MAML.
        adapt_transform: from the second step on, xi takes a gradient step on the support loss first.
        joint_features: where only the head adapts, pass support and query through the body in one batch, so that
            batch norm sees both (the release's ANIL); otherwise each set is normalised by itself.
        support_statistics: for scores alone, the batch norm of query images takes the statistics of the support set
            instead of their own.
        recompute: keep the fast weights of each step alone, and compute the step again when it is differentiated
            (`inner.memory: constant`); the values are the same.
        head: how the output layer starts, "learned", "zero" or "shared": see `output_layer.start_params`.
    """

    adapted: tuple[str, ...]
    lr: float
    num_inner_steps: int
    first_order: bool = False
    transform: GradientTransform = Identity()  # noqa: RUF009 - frozen and empty
    adapt_transform: bool = False
    joint_features: bool = False
    support_statistics: bool = False
    recompute: bool = False
    head: str = "learned"


@dataclass(frozen=True)
class Adaptation:
    """The result of an inner loop.

    Attributes:
        fast_weights: phi_K, the adapted parameters by name.
        observations: what `observe` returned at phi_0, ..., phi_K, or without phi_0; empty without it.
    """

    fast_weights: Params
    observations: list[Tensor]


@dataclass(frozen=True)
class _State:
    """What one inner step hands to the next: phi_k, xi_k, and g_{k-1} where xi adapts (else empty)."""

    fast: Params
    xi: Params
    previous: Params


def gradient_of(support_loss: Callable[[Params, Params], Tensor], *, first_order: bool) -> SupportGradient:
    """Return the gradient of a loss of (fast weights, context) by the former, differentiable unless first order."""

    def exact(fast: Params, context: Params) -> Params:
        gradients: Params = grad(support_loss)(fast, context)
        return gradients

    def constant(fast: Params, context: Params) -> Params:
        # Nothing of this gradient is differentiated again: recording its graph would be waste.
        with torch.no_grad():
            return {name: value.detach() for name, value in exact(fast, context).items()}

    return constant if first_order else exact


def adapt(
    support_loss: SupportLoss,
    params: Mapping[str, Tensor],
    xi: Mapping[str, Tensor],
    inner: InnerLoop,
    *,
    observe: Observe | None = None,
) -> Adaptation:
    """Adapt by gradient steps on a loss of the fast weights alone; see `unroll`.

    The loss may depend on other tensors and their gradients, so nothing is recomputed here, whatever
    `inner.recompute` says.
    """
    gradient = gradient_of(lambda fast, _: support_loss(fast), first_order=inner.first_order)
    return unroll(gradient, params, xi, replace(inner, recompute=False), observe=observe)


def unroll(
    support_gradient: SupportGradient,
    params: Mapping[str, Tensor],
    xi: Mapping[str, Tensor],
    inner: InnerLoop,
    *,
    context: Mapping[str, Tensor] | None = None,
    observe: Observe | None = None,
    observes_start: bool = True,
) -> Adaptation:
    """Adapt by K transformed gradient steps on a support loss.

    phi_0 = theta;  phi_{k+1} = phi_k - alpha * U_xi(g_k),  g_k = grad_phi L_S(phi_k).
    With `inner.adapt_transform`, for k >= 1 and before the weights move,
    xi_k = xi_{k-1} + alpha^2 * d/dxi < U_xi(g_{k-1}), g_k > at xi_{k-1}:
    the derivative of L_S(phi_k) with respect to the xi that made the last step, times -alpha.

    The result is differentiable with respect to `params`, `xi` and `context` (exactly, to any order unless
    `inner.recompute`: then once), unless `inner.first_order`: then every g_k is a constant, while derivatives
    through U into xi remain. What is observed is differentiable likewise.

    Args:
        support_gradient: (fast weights, context) -> gradients, as `gradient_of` makes it of a loss.
        params: the initialisation; only the names in `inner.adapted` are used.
        xi: meta-parameters of the transform.
        inner: the settings.
        context: what else the gradient and the observations depend on.
        observe: called with the fast weights phi_0, ..., phi_K, and the context. With `inner.recompute` its graph, too,
            is not kept, so all that it depends on and that needs a gradient is one of the two.
        observes_start: whether phi_0 is observed.

    Returns:
        The fast weights and the observations.

    Source: Finn et al. 2017, arXiv 1703.03400, algorithm 1, lines 4 to 7; Arnold et al. 2021, section 4, for U_xi.
    No known deviation.
    """
    state = _State({name: params[name] for name in inner.adapted}, dict(xi), {})
    step = partial(_step, support_gradient, inner)
    return _unrolled(step, state, inner, dict(context or {}), observe, observes_start=observes_start)


def unroll_plainly(
    plain_step: PlainStep,
    params: Mapping[str, Tensor],
    inner: InnerLoop,
    *,
    context: Mapping[str, Tensor],
    observe: Observe | None = None,
    observes_start: bool = True,
) -> Adaptation:
    """Do as `unroll` without a transform, by steps that are taken as a whole; all of `params` move.

    What a gradient is made of may be added to the weights without the gradient itself ever being there.
    """

    def step(index: int, state: _State, context: Params) -> _State:
        return _State(plain_step(state.fast, context), {}, {})

    return _unrolled(step, _State(dict(params), {}, {}), inner, dict(context), observe, observes_start=observes_start)


# (index of the step, state before it, context) -> state after it.
_TakeStep = Callable[[int, _State, Params], _State]


def _unrolled(
    step: _TakeStep, state: _State, inner: InnerLoop, context: Params, observe: Observe | None, *, observes_start: bool
) -> Adaptation:
    if inner.recompute and torch.is_grad_enabled():
        step = partial(_recomputed_step, step, is_xi_adapted=inner.adapt_transform)
        observe = None if observe is None else partial(_recomputed_observation, observe)
    observations = [observe(state.fast, context)] if observe is not None and observes_start else []
    for index in range(inner.num_inner_steps):
        state = step(index, state, context)
        if observe is not None:
            observations.append(observe(state.fast, context))
    return Adaptation(state.fast, observations)


def _step(support_gradient: SupportGradient, inner: InnerLoop, index: int, state: _State, context: Params) -> _State:
    gradients = support_gradient(state.fast, context)
    is_adapted = inner.adapt_transform and bool(state.xi)
    xi = _adapted_xi(inner, state.xi, state.previous, gradients) if is_adapted and state.previous else state.xi
    updates = inner.transform.apply(xi, gradients, index)
    # Added with -alpha, not subtracted: the derivative takes one pass less.
    fast = {name: torch.add(value, updates[name], alpha=-inner.lr) for name, value in state.fast.items()}
    return _State(fast, xi, gradients if is_adapted else {})


def _adapted_xi(inner: InnerLoop, xi: Params, previous: Params, gradients: Params) -> Params:
    """Return xi after a step of rate alpha on the support loss, whose xi-gradient is -alpha * `agreement`'s."""

    def agreement(candidate: Params) -> Tensor:
        updates = inner.transform.apply(candidate, previous)
        return torch.stack([(updates[name] * gradients[name]).sum() for name in gradients]).sum()

    direction: Params = grad(agreement)(xi)
    return {name: value + inner.lr**2 * direction[name] for name, value in xi.items()}


# Constant memory -----------------------------------------------------------------------------------------------


def _recomputed_step(
    take_step: _TakeStep, index: int, state: _State, context: Params, *, is_xi_adapted: bool
) -> _State:
    """Return the state after a step of which only the state before it is kept."""
    is_xi_changed = bool(is_xi_adapted and state.previous)

    def step(groups: list[Params]) -> tuple[Tensor, ...]:
        *parts, context = groups
        after = take_step(index, _State(*parts), context)
        return (*after.fast.values(), *(after.xi.values() if is_xi_changed else ()), *after.previous.values())

    outputs = iter(_recomputed(step, [state.fast, state.xi, state.previous, context]))
    fast = {name: next(outputs) for name in state.fast}
    xi = {name: next(outputs) for name in state.xi} if is_xi_changed else state.xi
    previous = {name: next(outputs) for name in state.fast} if is_xi_adapted and state.xi else {}
    return _State(fast, xi, previous)


def _recomputed_observation(observe: Observe, fast: Params, context: Params) -> Tensor:
    """Return an observation of which only what it was made from is kept."""
    [observation] = _recomputed(lambda groups: (observe(*groups),), [fast, context])
    return observation


def _recomputed(function: Callable[[list[Params]], tuple[Tensor, ...]], groups: list[Params]) -> tuple[Tensor, ...]:
    """Return what a function of groups of named tensors returns, and keep those tensors alone."""
    keys = [(index, name) for index, group in enumerate(groups) for name in group]
    num_groups = len(groups)

    def of_tensors(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        parts: list[Params] = [{} for _ in range(num_groups)]
        for (index, name), tensor in zip(keys, tensors, strict=True):
            parts[index][name] = tensor
        return function(parts)

    outputs: tuple[Tensor, ...] = _Recomputed.apply(of_tensors, *(groups[index][name] for index, name in keys))
    return outputs


_OfTensors = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]


class _RecomputedContext(Protocol):
    """What autograd carries from the forward pass of a function to its backward pass."""

    function: _OfTensors
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _Recomputed(torch.autograd.Function):
    """Calls a function and keeps its inputs alone; the backward pass calls it again, with a graph, and frees that."""

    @staticmethod
    def forward(ctx: _RecomputedContext, function: _OfTensors, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.function = function
        ctx.save_for_backward(*tensors)
        # Only with a fresh object per output is nothing of the input marked as changed.
        return tuple(value.view_as(value) for value in function(tensors))

    @staticmethod
    @once_differentiable
    def backward(ctx: _RecomputedContext, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        is_wanted = ctx.needs_input_grad[1:]
        with torch.enable_grad():
            pairs_of_inputs = zip(ctx.saved_tensors, is_wanted, strict=True)
            inputs = [value.detach().requires_grad_(needs_grad) for value, needs_grad in pairs_of_inputs]
            outputs = ctx.function(inputs)
            pairs = [(y, g) for y, g in zip(outputs, output_gradients, strict=True) if y.requires_grad]
            gradients = torch.autograd.grad(
                [y for y, _ in pairs],
                [value for value in inputs if value.requires_grad],
                [g for _, g in pairs],
                allow_unused=True,
            )
        remaining = iter(gradients)
        return (None, *(next(remaining) if needs_grad else None for needs_grad in is_wanted))
