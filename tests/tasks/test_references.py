"""Bayes and MAP solutions of synthetic tasks, against independent solvers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from mamlcli.common.errors import MamlError
from mamlcli.tasks.episodes import Episode, ReferenceScores, sample_tasks
from mamlcli.tasks.references import classification_scores, map_logistic_weights, posterior_mean_weights
from mamlcli.tasks.synthetic import LinearRegressionTasks, LogisticTasks, SinusoidTasks


def draw(tasks: LinearRegressionTasks | LogisticTasks | SinusoidTasks, num_tasks: int) -> Episode:
    return sample_tasks(tasks, seed=7, split="test", iteration=0, indices=range(num_tasks))


def loss_of(scores: ReferenceScores) -> Tensor:
    assert scores.loss is not None
    return scores.loss


def accuracy_of(scores: ReferenceScores) -> Tensor:
    assert scores.accuracy is not None
    return scores.accuracy


def posterior_mean(tasks: LinearRegressionTasks, episode: Episode) -> Tensor:
    return posterior_mean_weights(
        episode.support_x,
        episode.support_y.squeeze(-1),
        noise=tasks.noise,
        weight_scale=tasks.weight_scale,
    )


def map_weights(tasks: LogisticTasks, episode: Episode) -> Tensor:
    return map_logistic_weights(
        episode.support_x,
        episode.support_y,
        weight_scale=tasks.weight_scale,
        label_noise=tasks.label_noise,
    )


def negative_log_posterior(weights: Tensor, x: Tensor, y: Tensor, *, tasks: LogisticTasks) -> Tensor:
    """Return one task's objective, written as plainly as can be."""
    noise = tasks.label_noise
    probability = noise + (1 - 2 * noise) * torch.sigmoid(x @ weights)
    likelihood = torch.where(y == 1, probability, 1 - probability)
    return -likelihood.log().sum() + 0.5 * weights.square().sum() / tasks.weight_scale**2


@pytest.mark.parametrize("shots", [4, 30])
def test_posterior_mean_equals_ridge_and_gaussian_conditioning(shots: int) -> None:
    tasks = LinearRegressionTasks(dimension=6, shots=shots, noise=0.5, weight_scale=2.0, dtype=torch.float64)
    episode = draw(tasks, 3)
    weights = posterior_mean(tasks, episode).numpy()
    for i in range(3):
        x, y = episode.support_x[i].numpy(), episode.support_y[i, :, 0].numpy()
        ridge = np.linalg.solve(x.T @ x + (0.5 / 2.0) ** 2 * np.eye(6), x.T @ y)
        # (t, y) are jointly Gaussian: E[t | y] = Cov(t, y) Cov(y)^{-1} y, Cov(t, y) = 4 X^T.
        conditional = 4.0 * x.T @ np.linalg.solve(4.0 * x @ x.T + 0.25 * np.eye(shots), y)
        # Float64 and a condition number below 1e4.
        np.testing.assert_allclose(weights[i], ridge, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(weights[i], conditional, rtol=1e-10, atol=1e-11)


def test_posterior_mean_without_noise_recovers_determined_tasks() -> None:
    tasks = LinearRegressionTasks(dimension=6, shots=30, noise=0.0, dtype=torch.float64)
    episode = draw(tasks, 3)
    torch.testing.assert_close(posterior_mean(tasks, episode), episode.truth["weights"], rtol=1e-10, atol=1e-10)


def test_posterior_mean_without_noise_is_the_least_norm_fit() -> None:
    tasks = LinearRegressionTasks(dimension=6, shots=4, noise=0.0, dtype=torch.float64)
    episode = draw(tasks, 3)
    expected = torch.linalg.pinv(episode.support_x) @ episode.support_y
    torch.testing.assert_close(posterior_mean(tasks, episode), expected.squeeze(-1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shots", [4, 30])
def test_posterior_mean_is_continuous_at_zero_noise(shots: int) -> None:
    clean = LinearRegressionTasks(dimension=6, shots=shots, noise=0.0, dtype=torch.float64)
    almost = LinearRegressionTasks(dimension=6, shots=shots, noise=1e-6, dtype=torch.float64)
    episode = draw(clean, 3)
    # lambda = 1e-12 against squared singular values above 1e-4 moves the solution by less than 1e-7.
    torch.testing.assert_close(posterior_mean(almost, episode), posterior_mean(clean, episode), rtol=0.0, atol=1e-7)


def test_posterior_mean_beats_other_ridge_penalties_on_average() -> None:
    tasks = LinearRegressionTasks(dimension=6, shots=8, noise=1.0, dtype=torch.float64)
    episode = draw(tasks, 1500)
    best = loss_of(tasks.references(episode)["posterior mean"])
    for factor in (0.4, 2.5):
        wrong_prior = LinearRegressionTasks(dimension=6, shots=8, noise=1.0, weight_scale=factor, dtype=torch.float64)
        excess = loss_of(wrong_prior.references(episode)["posterior mean"]) - best
        # Paired over tasks, so 3 standard errors above zero leave no doubt.
        assert excess.mean() > 3 * excess.std() / math.sqrt(1500)


def test_true_weights_score_the_label_noise() -> None:
    tasks = LinearRegressionTasks(noise=0.3, queries=100)
    scores = tasks.references(draw(tasks, 200))["true weights"]
    assert scores.accuracy is None
    # Half the square of a normal of deviation 0.3 has mean 0.045, deviation 0.045 sqrt(2); 4 standard errors.
    assert abs(loss_of(scores).mean().item() - 0.045) < 4 * 0.045 * math.sqrt(2 / 20_000)


def test_posterior_mean_scores_are_the_written_out_loss() -> None:
    tasks = LinearRegressionTasks(dimension=4, shots=10, queries=7, dtype=torch.float64)
    episode = draw(tasks, 2)
    weights = posterior_mean(tasks, episode)
    loss = loss_of(tasks.references(episode)["posterior mean"])
    for i in range(2):
        squares = [(float(weights[i] @ episode.query_x[i, j]) - float(episode.query_y[i, j, 0])) ** 2 for j in range(7)]
        assert loss[i].item() == pytest.approx(0.5 * sum(squares) / 7, rel=1e-12)


@pytest.mark.parametrize("label_noise", [0.0, 0.15])
@pytest.mark.parametrize("weight_scale", [1.0, 30.0])
def test_map_gradient_is_zero(label_noise: float, weight_scale: float) -> None:
    tasks = LogisticTasks(
        dimension=5, shots=25, label_noise=label_noise, weight_scale=weight_scale, dtype=torch.float64
    )
    episode = draw(tasks, 10)
    weights = map_weights(tasks, episode).requires_grad_()
    for i in range(10):
        value = negative_log_posterior(weights[i], episode.support_x[i], episode.support_y[i], tasks=tasks)
        (gradient,) = torch.autograd.grad(value, weights)
        # The solver's own threshold, doubled for the rounding of the plain formula.
        assert gradient.norm() < 2e-8


@pytest.mark.parametrize("label_noise", [0.0, 0.1])
def test_map_equals_scipy(label_noise: float) -> None:
    tasks = LogisticTasks(dimension=5, shots=40, label_noise=label_noise, dtype=torch.float64)
    episode = draw(tasks, 3)
    weights = map_weights(tasks, episode).numpy()
    for i in range(3):
        x, signs = episode.support_x[i].numpy(), 2 * episode.support_y[i].numpy() - 1

        def objective(weights: np.ndarray, x: np.ndarray = x, signs: np.ndarray = signs) -> float:
            clean = 1 / (1 + np.exp(-signs * (x @ weights)))
            return float(0.5 * weights @ weights - np.log(label_noise + (1 - 2 * label_noise) * clean).sum())

        result = minimize(objective, np.zeros(5), method="BFGS", options={"gtol": 1e-5})
        # scipy's finite differences stop at gradients of 1e-5, and curvature is at least about 1.
        np.testing.assert_allclose(weights[i], result.x, atol=5e-5)


def test_map_with_label_noise_is_no_worse_than_the_start() -> None:
    tasks = LogisticTasks(dimension=5, shots=12, label_noise=0.3, weight_scale=10.0, dtype=torch.float64)
    episode = draw(tasks, 20)
    weights = map_weights(tasks, episode)
    for i in range(20):
        x, y = episode.support_x[i], episode.support_y[i]
        reached = negative_log_posterior(weights[i], x, y, tasks=tasks)
        # The signs are not told from a coin at w = 0: 12 log 2.
        assert reached <= 12 * math.log(2)


def test_map_of_a_task_does_not_depend_on_its_batch() -> None:
    tasks = LogisticTasks(dimension=5, shots=25, dtype=torch.float64)
    episode = draw(tasks, 8)
    # Batched linear algebra may round in another order; nothing else may differ.
    torch.testing.assert_close(
        map_weights(tasks, episode)[3:4], map_weights(tasks, episode.tasks(3, 4)), rtol=0.0, atol=1e-12
    )


def test_map_of_separable_tasks_is_finite() -> None:
    # Two points and one class: without a prior the weights would grow for ever.
    x = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]], dtype=torch.float64)
    weights = map_logistic_weights(x, torch.ones(1, 2, dtype=torch.int64), weight_scale=100.0, label_noise=0.0)
    assert weights.isfinite().all()
    assert (x @ weights[0] > 0).all()


def test_map_that_does_not_converge_is_an_error() -> None:
    x = torch.full((1, 1, 1), math.nan, dtype=torch.float64)
    with pytest.raises(MamlError, match="expected a gradient norm below 1e-08"):
        map_logistic_weights(x, torch.ones(1, 1, dtype=torch.int64), weight_scale=1.0, label_noise=0.0)


def test_classification_scores_are_the_written_out_loss_and_accuracy() -> None:
    weights = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 0.5]]], dtype=torch.float64)
    labels = torch.tensor([[1, 1, 0]])
    scores = classification_scores(weights, x, labels, label_noise=0.1)
    # Logits 1, -2, 1: the first is classified right, the others wrong.
    probabilities = [0.1 + 0.8 / (1 + math.exp(-logit)) for logit in (1.0, -2.0, -1.0)]
    expected = -sum(math.log(p) for p in probabilities) / 3
    assert loss_of(scores).item() == pytest.approx(expected, rel=1e-12)
    assert accuracy_of(scores).item() == pytest.approx(1 / 3)


def test_classification_loss_survives_large_margins() -> None:
    weights = torch.tensor([[1e4]], dtype=torch.float64)
    x = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64)
    scores = classification_scores(weights, x, torch.tensor([[0, 0]]), label_noise=0.0)
    # -log sigmoid(-1e4) = 1e4 and -log sigmoid(1e4) = 0.
    assert loss_of(scores).item() == pytest.approx(5e3)


def test_true_weights_beat_map_on_average() -> None:
    tasks = LogisticTasks(dimension=10, shots=20, label_noise=0.05)
    scores = tasks.references(draw(tasks, 300))
    excess = loss_of(scores["MAP"]) - loss_of(scores["true weights"])
    # The true predictive probability minimises the expected cross-entropy of every task.
    assert excess.mean() > 3 * excess.std() / math.sqrt(300)


def test_map_beats_chance() -> None:
    tasks = LogisticTasks(dimension=10, shots=50)
    accuracy = accuracy_of(tasks.references(draw(tasks, 100))["MAP"])
    assert accuracy.mean() - 3 * accuracy.std() / 10 > 0.5


def test_true_function_has_no_error_without_noise() -> None:
    tasks = SinusoidTasks(dtype=torch.float64)
    assert loss_of(tasks.references(draw(tasks, 5))["true function"]).max() < 1e-28


@pytest.mark.parametrize("tasks", [LinearRegressionTasks(), LogisticTasks(), SinusoidTasks(noise=0.1)])
def test_scores_are_one_float64_per_task(
    tasks: LinearRegressionTasks | LogisticTasks | SinusoidTasks,
) -> None:
    for scores in tasks.references(draw(tasks, 3)).values():
        assert loss_of(scores).shape == (3,)
        assert loss_of(scores).dtype == torch.float64
        assert (scores.accuracy is not None) == tasks.is_classification
