"""The Bayes predictive of logistic tasks, against quadrature, more samples, and other methods."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mamlcli.tasks import bayes_predictive
from mamlcli.tasks.bayes_predictive import bayes_predictive_scores, gaussian_posterior
from mamlcli.tasks.episodes import Episode, ReferenceScores, sample_tasks
from mamlcli.tasks.synthetic import LogisticTasks

# The tasks of recipes/logistic.yaml.
RECIPE = LogisticTasks(dimension=20, shots=40, queries=40, weight_scale=10.0, dtype=torch.float64)


def draw(tasks: LogisticTasks, num_tasks: int) -> Episode:
    return sample_tasks(tasks, seed=7, split="test", iteration=0, indices=range(num_tasks))


def scores_of(tasks: LogisticTasks, episode: Episode) -> ReferenceScores:
    return bayes_predictive_scores(*episode.data(), weight_scale=tasks.weight_scale, label_noise=tasks.label_noise)


def loss_of(scores: ReferenceScores) -> Tensor:
    assert scores.loss is not None
    return scores.loss


def likelihood(margin: Tensor, label_noise: float) -> Tensor:
    return label_noise + (1 - 2 * label_noise) * torch.sigmoid(margin)


def grid_posterior(tasks: LogisticTasks, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of a fine grid over 7 prior deviations to either side, and their posterior probabilities."""
    axis = torch.linspace(-7 * tasks.weight_scale, 7 * tasks.weight_scale, 501, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * tasks.dimension).reshape(-1, tasks.dimension)
    log_density = likelihood(grid @ ((2.0 * y - 1).unsqueeze(-1) * x).T, tasks.label_noise).log().sum(dim=1)
    return grid, torch.softmax(log_density - 0.5 * grid.square().sum(dim=1) / tasks.weight_scale**2, dim=0)


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("label_noise", [0.0, 0.1])
def test_scores_equal_numerical_quadrature(dimension: int, label_noise: float) -> None:
    tasks = LogisticTasks(
        dimension=dimension,
        shots=6,
        queries=10,
        weight_scale=3.0,
        label_noise=label_noise,
        condition_number=4.0,
        dtype=torch.float64,
    )
    episode = draw(tasks, 5)
    scores = scores_of(tasks, episode)
    assert scores.accuracy is not None
    for i in range(5):
        grid, posterior = grid_posterior(tasks, episode.support_x[i], episode.support_y[i])
        signs = 2.0 * episode.query_y[i] - 1
        probability = posterior @ likelihood(grid @ (signs.unsqueeze(-1) * episode.query_x[i]).T, label_noise)
        # 1,024 quasi-random points: an error of a few 1e-3 of each probability.
        assert loss_of(scores)[i].item() == pytest.approx(-probability.log().mean().item(), rel=5e-3)
        assert scores.accuracy[i].item() == (probability > 0.5).double().mean().item()


def test_gaussian_has_about_the_moments_of_the_posterior() -> None:
    tasks = LogisticTasks(dimension=2, shots=12, weight_scale=3.0, condition_number=4.0, dtype=torch.float64)
    episode = draw(tasks, 5)
    signed = (2.0 * episode.support_y - 1).unsqueeze(-1) * episode.support_x
    mean, factor = gaussian_posterior(signed, weight_scale=3.0, label_noise=0.0)
    for i in range(5):
        grid, posterior = grid_posterior(tasks, episode.support_x[i], episode.support_y[i])
        exact = posterior @ grid
        variance = posterior @ (grid - exact).square()
        # What the Gaussian and the probit approximation cost here, where margins of the posterior are skewed.
        assert ((mean[i] - exact).abs() < 0.4 * variance.sqrt()).all()
        torch.testing.assert_close((factor[i] @ factor[i].T).diagonal(), variance, rtol=0.4, atol=0.0)


def test_many_more_samples_change_little(monkeypatch: pytest.MonkeyPatch) -> None:
    episode = draw(RECIPE, 40)
    few = loss_of(scores_of(RECIPE, episode))
    monkeypatch.setattr(bayes_predictive, "NUM_SAMPLES", (16384,))
    many = loss_of(scores_of(RECIPE, episode))
    # Losses are about 0.3; of one task they are known to about 0.02, and the errors of tasks nearly cancel in the mean,
    # whose standard error over 2,000 tasks is 0.005.
    assert (few - many).square().mean().sqrt() < 0.04
    assert (few - many).mean().abs() < 0.006


def test_no_method_is_better_on_average() -> None:
    scores = RECIPE.references(draw(RECIPE, 400))
    excess = loss_of(scores["MAP"]) - loss_of(scores["Bayes predictive"])
    assert excess.mean() > 3 * excess.std() / 20
    # By MCMC 0.3025 on 400 other tasks; the standard error of either is 0.0115.
    assert abs(loss_of(scores["Bayes predictive"]).mean().item() - 0.3025) < 3 * 0.0115 * math.sqrt(2)


def test_without_support_points_that_tell_the_prediction_is_a_coin() -> None:
    zeros = torch.zeros(1, 3, 2, dtype=torch.float64)
    query = torch.ones(1, 4, 2, dtype=torch.float64)
    labels = torch.zeros(1, 4, dtype=torch.int64)
    scores = bayes_predictive_scores(zeros, labels[:, :3], query, labels, weight_scale=10.0, label_noise=0.0)
    assert loss_of(scores).item() == pytest.approx(math.log(2), abs=0.01)


def test_scores_of_a_task_do_not_depend_on_its_batch() -> None:
    episode = draw(RECIPE, 30)
    alone = loss_of(scores_of(RECIPE, episode.tasks(17, 18)))
    # Batched linear algebra may round in another order; nothing else may differ.
    torch.testing.assert_close(loss_of(scores_of(RECIPE, episode))[17:18], alone, rtol=0.0, atol=1e-9)


def test_tasks_that_do_not_converge_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bayes_predictive, "NUM_SAMPLES", (16, 32))
    scores = scores_of(RECIPE, draw(RECIPE, 3))
    assert scores.doubtful is not None
    assert scores.doubtful.tolist() == [1.0, 1.0, 1.0]


def test_tasks_of_the_recipe_converge() -> None:
    scores = scores_of(RECIPE, draw(RECIPE, 200))
    assert scores.doubtful is not None
    assert not scores.doubtful.any()
