"""Compute losses and best operators of linear regression tasks in closed form, without training.

Throughout, x ~ N(0, Sx), t ~ N(0, St), y = t.x + sigma * eps, the model is w.x from w = 0, and the loss is
half the squared error. Every function takes and returns float64 tensors, and autograd can differentiate it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shallow_loss_infinite_support(input_cov: Tensor, task_cov: Tensor, *, inner_lr: float, num_steps: int) -> Tensor:
    """Return the outer loss of a one-layer linear model whose support sets are infinite and without noise.

    phi_K - t = P (theta - t) with P = (I - alpha Sx)^K, so at the best start theta = E[t] = 0 the loss is
    1/2 tr(P^T Sx P St), whatever is meta-learned.

    Args:
        input_cov: Sx, [dimension, dimension], float64.
        task_cov: St, [dimension, dimension], float64.
        inner_lr: alpha.
        num_steps: K, the number of inner steps.

    Returns:
        The expected query loss without label noise, a float64 scalar.

    Source: Arnold, Iqbal, Sha 2021, arXiv 1910.13603 (the argument on linear regression); derived here for
        any Sx and St.
    Differs from the source: no known deviation.
    """
    contraction = torch.linalg.matrix_power(_identity_like(input_cov) - inner_lr * input_cov, num_steps)
    return 0.5 * torch.trace(contraction.T @ input_cov @ contraction @ task_cov)


def shallow_loss_one_step(
    input_cov: Tensor,
    task_cov: Tensor,
    *,
    inner_lr: float | Tensor,
    shots: float,
    noise: float,
    query_noise: float = 0.0,
) -> Tensor:
    """Return the outer loss of a one-layer linear model after one inner step on m support points.

    1/2 { tr(Sx St) - 2 alpha tr(Sx St Sx)
          + alpha^2 [ (1 + 1/m) tr(Sx St Sx^2) + (tr(Sx St) + sigma^2) tr(Sx^2) / m ] } + sigma_Q^2 / 2

    Args:
        input_cov: Sx, [dimension, dimension], float64.
        task_cov: St, [dimension, dimension], float64.
        inner_lr: alpha.
        shots: m, the support points of a task; math.inf gives the limit of many points.
        noise: sigma, standard deviation of the noise on support labels.
        query_noise: sigma_Q, standard deviation of the noise on query labels.

    Returns:
        The expected query loss, a float64 scalar.

    Source: our derivation: `preconditioned_loss_one_step` with D = alpha I.
    Differs from the source: no known deviation.
    """
    linear, quadratic = _step_size_coefficients(input_cov, task_cov, shots=shots, noise=noise)
    constant = torch.trace(input_cov @ task_cov)
    return 0.5 * (constant - 2 * inner_lr * linear + inner_lr**2 * quadratic + query_noise**2)


def best_shallow_inner_lr(input_cov: Tensor, task_cov: Tensor, *, shots: float, noise: float) -> Tensor:
    """Return the inner learning rate that minimises `shallow_loss_one_step`.

    alpha = tr(Sx St Sx) / [ (1 + 1/m) tr(Sx St Sx^2) + (tr(Sx St) + sigma^2) tr(Sx^2) / m ]

    Args:
        input_cov: Sx, [dimension, dimension], float64.
        task_cov: St, [dimension, dimension], float64.
        shots: m, the support points of a task; math.inf gives the limit of many points.
        noise: sigma, standard deviation of the noise on support labels.

    Returns:
        alpha, a float64 scalar.

    Source: our derivation: the loss is a parabola in alpha.
    Differs from the source: no known deviation.
    """
    linear, quadratic = _step_size_coefficients(input_cov, task_cov, shots=shots, noise=noise)
    return linear / quadratic


def preconditioned_loss_one_step(
    preconditioner: Tensor,
    input_cov: Tensor,
    task_cov: Tensor,
    *,
    shots: float,
    noise: float,
    query_noise: float = 0.0,
) -> Tensor:
    """Return the outer loss after one inner step whose gradient is multiplied by a matrix D.

    w = D (1/m) sum_i x_i y_i, and with the fourth moments of a Gaussian,
    loss = 1/2 tr{ Sx [ St - D Sx St - St Sx D^T + D C D^T ] } + sigma_Q^2 / 2,
    C = (1 + 1/m) Sx St Sx + (tr(Sx St) + sigma^2) / m * Sx.

    Args:
        preconditioner: D = alpha M, [dimension, dimension], float64: the inner learning rate is part of it.
        input_cov: Sx, [dimension, dimension], float64.
        task_cov: St, [dimension, dimension], float64.
        shots: m, the support points of a task; math.inf gives the limit of many points.
        noise: sigma, standard deviation of the noise on support labels.
        query_noise: sigma_Q, standard deviation of the noise on query labels.

    Returns:
        The expected query loss, a float64 scalar.

    Source: our derivation, by E[S B S] = (1 + 1/m) Sx B Sx + tr(Sx B) / m * Sx for the sample covariance S
        of m Gaussian points and a symmetric B.
    Differs from the source: no known deviation.
    """
    signal = input_cov @ task_cov
    gradient_cov = signal @ input_cov * (1 + 1 / shots) + (torch.trace(signal) + noise**2) / shots * input_cov
    reached = preconditioner @ signal
    error_cov = task_cov - reached - reached.T + preconditioner @ gradient_cov @ preconditioner.T
    return 0.5 * (torch.trace(input_cov @ error_cov) + query_noise**2)


def optimal_preconditioner(input_cov: Tensor, task_cov: Tensor, *, shots: float, noise: float) -> Tensor:
    """Return the matrix D = alpha M that minimises `preconditioned_loss_one_step`.

    D = St [ (1 + 1/m) Sx St + (tr(Sx St) + sigma^2) / m * I ]^{-1}

    It tends to Sx^{-1} as m grows; there a second linear layer A with A^T A = D, or a dense gradient
    transform on the shallow model, solves every task in one step.

    Args:
        input_cov: Sx, [dimension, dimension], float64.
        task_cov: St, [dimension, dimension], float64.
        shots: m, the support points of a task; math.inf gives the limit of many points.
        noise: sigma, standard deviation of the noise on support labels.

    Returns:
        D, [dimension, dimension], float64.

    Source: our derivation: the gradient of the loss with respect to D is Sx (D C - St Sx), zero at D.
    Differs from the source: no known deviation.
    """
    signal = input_cov @ task_cov
    spread = (torch.trace(signal) + noise**2) / shots
    inverse = (1 + 1 / shots) * signal + spread * _identity_like(input_cov)
    preconditioner: Tensor = torch.linalg.solve(inverse, task_cov, left=False)
    return preconditioner


def _step_size_coefficients(
    input_cov: Tensor, task_cov: Tensor, *, shots: float, noise: float
) -> tuple[Tensor, Tensor]:
    """Return (b, c) of the one-step loss 1/2 (a - 2 alpha b + alpha^2 c)."""
    signal = input_cov @ task_cov
    spread = (torch.trace(signal) + noise**2) / shots
    linear = torch.trace(signal @ input_cov)
    quadratic = (1 + 1 / shots) * torch.trace(signal @ input_cov @ input_cov)
    return linear, quadratic + spread * torch.trace(input_cov @ input_cov)


def _identity_like(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
