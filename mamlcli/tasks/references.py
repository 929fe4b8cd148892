"""Compute posterior mean and MAP weights of synthetic tasks, and score weights on the query sets.

All in float64 on the CPU, for every task of a batch at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mamlcli.common.errors import MamlError
from mamlcli.tasks.episodes import ReferenceScores

GRADIENT_TOLERANCE = 1e-8
MAX_NEWTON_STEPS = 200
MAX_HALVINGS = 40

# Share of the predicted decrease that a step must achieve (the usual constant of Armijo's rule).
SUFFICIENT_DECREASE = 1e-4

# Near the optimum the objective changes by less than it is rounded; such a step is not a step too long.
OBJECTIVE_ROUNDING = 1e-13


def regression_scores(predictions: Tensor, targets: Tensor) -> ReferenceScores:
    """Return half the mean squared error of each task; both [num_tasks, num_query] float64."""
    return ReferenceScores(loss=0.5 * (predictions - targets).square().mean(dim=-1), accuracy=None)


def classification_scores(weights: Tensor, query_x: Tensor, query_y: Tensor, *, label_noise: float) -> ReferenceScores:
    """Score linear classifiers on the query sets, one per task.

    P(y = 1 | x) = eps + (1 - 2 eps) sigmoid(w.x); loss = mean of -log P(y | x); class 1 is predicted where
    w.x > 0.

    Args:
        weights: [num_tasks, dimension], float64.
        query_x: [num_tasks, num_query, dimension], float64.
        query_y: [num_tasks, num_query], int64 in {0, 1}.
        label_noise: eps, the probability that a label is flipped, in [0, 0.5).

    Returns:
        loss and accuracy, each [num_tasks] float64.

    Source: none; definitions.
    Differs from the source: no known deviation.
    """
    logits = _linear_outputs(weights, query_x)
    log_likelihood, _ = _label_log_likelihood(_signs(query_y) * logits, label_noise=label_noise)
    is_right = (logits > 0) == (query_y == 1)
    return ReferenceScores(loss=-log_likelihood.mean(dim=-1), accuracy=is_right.double().mean(dim=-1))


def posterior_mean_weights(support_x: Tensor, support_y: Tensor, *, noise: float, weight_scale: float) -> Tensor:
    """Return the posterior mean of the weights of each linear regression task.

    E[t | X, y] = (X^T X + lambda I)^{-1} X^T y with lambda = sigma^2 / weight_scale^2, for the prior
    t ~ N(0, weight_scale^2 I) and labels y = X t + sigma * eps. At sigma = 0 it is the limit, the solution
    of least norm among those that fit best. No function of the support set has a lower expected outer loss.

    Args:
        support_x: X, [num_tasks, num_support, dimension], float64.
        support_y: y, [num_tasks, num_support], float64.
        noise: sigma.
        weight_scale: standard deviation of each true weight under the prior.

    Returns:
        [num_tasks, dimension], float64.

    Source: Bayesian linear regression, textbook: Bishop 2006, Pattern Recognition and Machine Learning,
        section 3.3.
    Differs from the source: solved by singular values X = U diag(s) V^T, so that sigma = 0 needs no own path;
        singular values that are zero up to rounding are left out.
    """
    left, singular, right = torch.linalg.svd(support_x, full_matrices=False)
    rounding = torch.finfo(singular.dtype).eps * max(support_x.shape[-2:])
    is_used = singular > rounding * singular[..., :1]
    # `ones` keeps the branch not taken finite: 0 / 0 at sigma = 0.
    denominator = torch.where(is_used, singular.square() + (noise / weight_scale) ** 2, 1.0)
    filtered = torch.where(is_used, singular / denominator, 0.0)
    return torch.einsum("tsd,ts,tps,tp->td", right, filtered, left, support_y)


def map_logistic_weights(support_x: Tensor, support_y: Tensor, *, weight_scale: float, label_noise: float) -> Tensor:
    """Return the weights of greatest posterior probability of each logistic task: a baseline, not a floor.

    argmin_w  - sum_i log[ eps + (1 - 2 eps) sigmoid(s_i w.x_i) ] + |w|^2 / (2 weight_scale^2)
    with s_i = 2 y_i - 1. Solved for all tasks at once by Newton's method from w = 0 with step halving, until
    every task's gradient norm is below 1e-8. With eps = 0 the objective is convex and this is the minimum.
    With eps > 0 it need not be convex: the Hessian's eigenvalues are then taken by their absolute values, so
    that every step descends, and the result is a stationary point no worse than w = 0, not always the global
    minimum.

    Args:
        support_x: [num_tasks, num_support, dimension], float64.
        support_y: [num_tasks, num_support], int64 in {0, 1}.
        weight_scale: standard deviation of each true weight under the prior N(0, weight_scale^2 I).
        label_noise: eps, the probability that a label is flipped, in [0, 0.5).

    Returns:
        [num_tasks, dimension], float64.

    Raises:
        MamlError: a task has not converged after 200 steps.

    Source: logistic regression by Newton's method, textbook: Bishop 2006, Pattern Recognition and Machine
        Learning, section 4.3.3, with a Gaussian prior.
    Differs from the source: step halving, absolute eigenvalues, and the known label noise as part of the
        likelihood.
    """
    assert 0.0 <= label_noise < 0.5, label_noise
    signed_x = _signs(support_y).unsqueeze(-1) * support_x
    precision = weight_scale**-2
    weights = support_x.new_zeros(support_x.shape[0], support_x.shape[-1])
    for _ in range(MAX_NEWTON_STEPS):
        gradient, hessian = _posterior_derivatives(weights, signed_x, precision, label_noise)
        norm = gradient.norm(dim=-1, keepdim=True)
        is_moving = ~(norm < GRADIENT_TOLERANCE)  # NaN counts as moving
        if not is_moving.any():
            return weights
        if not norm.isfinite().all():
            break
        direction = torch.where(is_moving, _newton_direction(gradient, hessian), 0.0)
        weights = _descend(weights, direction, gradient, signed_x, precision, label_noise)
    raise MamlError(
        "logistic tasks: MAP reference",
        expected=f"a gradient norm below {GRADIENT_TOLERANCE} after {MAX_NEWTON_STEPS} Newton steps",
        got=f"{float(norm.max()):.3g}",
        why="Tasks with very large weights or inputs are too badly scaled for the solver",
        next_step="Use a smaller weight_scale",
    )


def _newton_direction(gradient: Tensor, hessian: Tensor) -> Tensor:
    """Return -|H|^{-1} g for each task, |H| having the absolute eigenvalues of H: always a descent."""
    eigenvalues, vectors = torch.linalg.eigh(hessian)
    sizes = eigenvalues.abs()
    # Keeps the step finite where the curvature vanishes.
    sizes = sizes.clamp(min=torch.finfo(sizes.dtype).eps * sizes.amax(dim=-1, keepdim=True))
    return -torch.einsum("tde,te,tfe,tf->td", vectors, 1 / sizes, vectors, gradient)


def _descend(
    weights: Tensor,
    direction: Tensor,
    gradient: Tensor,
    signed_x: Tensor,
    precision: float,
    label_noise: float,
) -> Tensor:
    """Move each task along its direction, by the first of 1, 1/2, 1/4, ... that lowers its objective."""
    value = _negative_log_posterior(weights, signed_x, precision, label_noise)
    slope = (gradient * direction).sum(dim=-1)
    step = torch.ones_like(value)
    for _ in range(MAX_HALVINGS):
        moved = weights + step.unsqueeze(-1) * direction
        reached = _negative_log_posterior(moved, signed_x, precision, label_noise)
        allowed = value + SUFFICIENT_DECREASE * step * slope + OBJECTIVE_ROUNDING * (1 + value.abs())
        is_too_long = ~(reached <= allowed)  # NaN counts as too long
        if not is_too_long.any():
            break
        step = torch.where(is_too_long, 0.5 * step, step)
    return moved


def _negative_log_posterior(weights: Tensor, signed_x: Tensor, precision: float, label_noise: float) -> Tensor:
    """Return each task's objective up to a constant, [num_tasks]."""
    log_likelihood, _ = _label_log_likelihood(_linear_outputs(weights, signed_x), label_noise=label_noise)
    return 0.5 * precision * weights.square().sum(dim=-1) - log_likelihood.sum(dim=-1)


def _posterior_derivatives(
    weights: Tensor, signed_x: Tensor, precision: float, label_noise: float
) -> tuple[Tensor, Tensor]:
    """Return the objective's gradient [num_tasks, dimension] and its Hessian.

    With z the margin, q = sigmoid(z) and r the share of P(y | x) that is not chance, the derivatives of
    -log[eps + (1 - 2 eps) q] in z are -r (1 - q) and r (1 - q) [q - (1 - r) (1 - q)].
    """
    margins = _linear_outputs(weights, signed_x)
    _, share = _label_log_likelihood(margins, label_noise=label_noise)
    right, wrong = torch.sigmoid(margins), torch.sigmoid(-margins)
    slope = -share * wrong
    curvature = share * wrong * (right - (1 - share) * wrong)
    gradient = torch.einsum("tp,tpd->td", slope, signed_x) + precision * weights
    prior = precision * torch.eye(weights.shape[-1], dtype=weights.dtype)
    return gradient, torch.einsum("tp,tpd,tpe->tde", curvature, signed_x, signed_x) + prior


def _label_log_likelihood(margins: Tensor, *, label_noise: float) -> tuple[Tensor, Tensor]:
    """Return log P(label | x) = log[eps + (1 - 2 eps) sigmoid(margin)], and the second term's share of P.

    By symmetry it holds for both labels, with margin = (2 y - 1) w.x. In logarithms, so that no margin is too
    large.
    """
    informative = math.log1p(-2 * label_noise) + logsigmoid(margins)
    by_chance = math.log(label_noise) if label_noise > 0 else -math.inf
    log_likelihood = torch.logaddexp(informative, torch.full_like(margins, by_chance))
    return log_likelihood, torch.exp(informative - log_likelihood)


def _linear_outputs(weights: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("tpd,td->tp", x, weights)


def _signs(labels: Tensor) -> Tensor:
    """Return -1.0 for class 0 and 1.0 for class 1, float64."""
    return 2.0 * labels.double() - 1.0
