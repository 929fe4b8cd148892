"""Closed forms of linear regression tasks, against simulation, autograd and each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mamlcli.tasks.closed_forms import (
    best_shallow_inner_lr,
    optimal_preconditioner,
    preconditioned_loss_one_step,
    shallow_loss_infinite_support,
    shallow_loss_one_step,
)
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks

DIMENSION, SHOTS, NOISE, QUERY_NOISE = 3, 5, 0.4, 0.7


def covariance(seed: int) -> Tensor:
    """Return a full, well-conditioned covariance matrix, unlike any other seed's."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(DIMENSION, DIMENSION, generator=generator, dtype=torch.float64)
    return factor @ factor.T / DIMENSION + 0.2 * torch.eye(DIMENSION, dtype=torch.float64)


INPUT_COV, TASK_COV = covariance(1), covariance(2)
# Not symmetric, so that a missing transpose shows.
PRECONDITIONER = torch.tensor([[0.3, 0.2, -0.1], [0.0, 0.4, 0.1], [0.2, -0.2, 0.5]], dtype=torch.float64)


def simulated_losses(preconditioner: Tensor, *, num_tasks: int = 100_000) -> Tensor:
    """Return each simulated task's loss after w = D (1/m) sum_i x_i y_i, [num_tasks].

    Support sets are sampled; the query loss is each task's exact 1/2 (w - t)^T Sx (w - t) + sigma_Q^2 / 2.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = normal(num_tasks, DIMENSION) @ torch.linalg.cholesky(TASK_COV).T
    x = normal(num_tasks, SHOTS, DIMENSION) @ torch.linalg.cholesky(INPUT_COV).T
    y = torch.einsum("tpd,td->tp", x, weights) + NOISE * normal(num_tasks, SHOTS)
    error = torch.einsum("tpd,tp->td", x, y) / SHOTS @ preconditioner.T - weights
    return 0.5 * (torch.einsum("td,de,te->t", error, INPUT_COV, error) + QUERY_NOISE**2)


def assert_is_mean_of(losses: Tensor, expected: Tensor) -> None:
    # 4 standard errors: a right formula fails for 1 seed in 16,000, and the seed is fixed.
    standard_error = losses.std() / math.sqrt(len(losses))
    # The error bar must itself be small, or the test would accept anything.
    assert standard_error < 0.01 * expected
    assert (losses.mean() - expected).abs() < 4 * standard_error


def test_preconditioned_loss_matches_simulation() -> None:
    expected = preconditioned_loss_one_step(
        PRECONDITIONER, INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE, query_noise=QUERY_NOISE
    )
    assert_is_mean_of(simulated_losses(PRECONDITIONER), expected)


def test_shallow_loss_matches_simulation() -> None:
    expected = shallow_loss_one_step(
        INPUT_COV, TASK_COV, inner_lr=0.3, shots=SHOTS, noise=NOISE, query_noise=QUERY_NOISE
    )
    assert_is_mean_of(simulated_losses(0.3 * torch.eye(DIMENSION, dtype=torch.float64)), expected)


def test_optimal_preconditioned_loss_matches_simulation() -> None:
    best = optimal_preconditioner(INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE)
    expected = preconditioned_loss_one_step(
        best, INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE, query_noise=QUERY_NOISE
    )
    assert_is_mean_of(simulated_losses(best), expected)


def test_shallow_loss_is_the_preconditioned_loss_of_a_multiple_of_the_identity() -> None:
    shallow = shallow_loss_one_step(
        INPUT_COV, TASK_COV, inner_lr=0.3, shots=SHOTS, noise=NOISE, query_noise=QUERY_NOISE
    )
    multiple = 0.3 * torch.eye(DIMENSION, dtype=torch.float64)
    general = preconditioned_loss_one_step(
        multiple, INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE, query_noise=QUERY_NOISE
    )
    torch.testing.assert_close(shallow, general)


def test_optimal_preconditioner_has_zero_gradient() -> None:
    best = optimal_preconditioner(INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE).requires_grad_()
    loss = preconditioned_loss_one_step(best, INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE)
    (gradient,) = torch.autograd.grad(loss, best)
    # Rounding: entries are sums of a few terms of size about 1.
    assert gradient.abs().max() < 1e-13


def test_optimal_preconditioner_beats_its_neighbours() -> None:
    best = optimal_preconditioner(INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE)
    least = preconditioned_loss_one_step(best, INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE)
    for other in (best + 0.01 * PRECONDITIONER, best - 0.01 * PRECONDITIONER):
        assert preconditioned_loss_one_step(other, INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE) > least


def test_best_shallow_inner_lr_has_zero_gradient() -> None:
    best = best_shallow_inner_lr(INPUT_COV, TASK_COV, shots=SHOTS, noise=NOISE).requires_grad_()
    loss = shallow_loss_one_step(INPUT_COV, TASK_COV, inner_lr=best, shots=SHOTS, noise=NOISE)
    (gradient,) = torch.autograd.grad(loss, best)
    assert gradient.abs() < 1e-13


def test_optimal_preconditioner_tends_to_the_inverse_input_covariance() -> None:
    best = optimal_preconditioner(INPUT_COV, TASK_COV, shots=math.inf, noise=NOISE)
    torch.testing.assert_close(best, torch.linalg.inv(INPUT_COV))


def test_infinite_support_is_solved_in_one_preconditioned_step() -> None:
    inverse = torch.linalg.inv(INPUT_COV)
    loss = preconditioned_loss_one_step(inverse, INPUT_COV, TASK_COV, shots=math.inf, noise=NOISE)
    assert loss.abs() < 1e-13


def test_infinite_support_loss_is_the_limit_of_the_one_step_loss() -> None:
    limit = shallow_loss_one_step(INPUT_COV, TASK_COV, inner_lr=0.3, shots=math.inf, noise=NOISE)
    infinite = shallow_loss_infinite_support(INPUT_COV, TASK_COV, inner_lr=0.3, num_steps=1)
    torch.testing.assert_close(infinite, limit)


def test_infinite_support_loss_matches_gradient_descent_unrolled() -> None:
    # The expectation over t is exact: the loss is quadratic in t, so it is the sum over the columns of a
    # factor F of St = F F^T, each taken as one task.
    total = torch.zeros((), dtype=torch.float64)
    for weights in torch.linalg.cholesky(TASK_COV).T:
        reached = torch.zeros_like(weights)
        for _ in range(4):
            reached = reached - 0.3 * INPUT_COV @ (reached - weights)
        total += 0.5 * (reached - weights) @ INPUT_COV @ (reached - weights)
    infinite = shallow_loss_infinite_support(INPUT_COV, TASK_COV, inner_lr=0.3, num_steps=4)
    torch.testing.assert_close(infinite, total)


@pytest.mark.parametrize("num_steps", [0, 1, 5])
def test_infinite_support_loss_of_scalar_tasks(num_steps: int) -> None:
    # Sx = 1, St = v, so P = (1 - alpha)^K and the loss is (1 - alpha)^(2 K) v / 2.
    unit = torch.ones(1, 1, dtype=torch.float64)
    loss = shallow_loss_infinite_support(unit, 4.0 * unit, inner_lr=0.3, num_steps=num_steps)
    assert loss.item() == pytest.approx(0.7 ** (2 * num_steps) * 2.0)


def test_sampled_regression_tasks_have_the_closed_form_loss() -> None:
    tasks = LinearRegressionTasks(dimension=3, shots=5, queries=20, noise=0.4, dtype=torch.float64)
    episode = sample_tasks(tasks, seed=0, split="test", iteration=0, indices=range(4000))
    support_x, support_y, query_x, query_y = episode.data()
    input_cov, task_cov = tasks.input_covariance(), tasks.task_covariance()
    inner_lr = best_shallow_inner_lr(input_cov, task_cov, shots=5, noise=0.4).item()
    weights = inner_lr * torch.einsum("tpd,tpo->td", support_x, support_y) / 5
    error = torch.einsum("tpd,td->tp", query_x, weights) - query_y.squeeze(-1)
    losses = 0.5 * error.square().mean(dim=-1)
    expected = shallow_loss_one_step(input_cov, task_cov, inner_lr=inner_lr, shots=5, noise=0.4, query_noise=0.4)
    # 4 standard errors, as above; the bar is wider, for there are fewer tasks.
    assert (losses.mean() - expected).abs() < 4 * losses.std() / math.sqrt(len(losses))
