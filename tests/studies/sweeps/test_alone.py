"""The capacity arm: networks trained on one task at a time reach what can be reached, or say that they did not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlcli.engine.networks import linear
from mamlcli.studies.sweeps.alone import capacity
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks, LogisticTasks
from tests.helpers.numerics import DOUBLE

# Shots of the recipe, as it is meta-trained; the capacity arm gets many more of the same tasks.
FEW = LinearRegressionTasks(dimension=4, shots=10, queries=200, noise=0.3, condition_number=10.0, dtype=DOUBLE)
MANY = replace(FEW, shots=400)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_linear_model_of_any_depth_reaches_the_floor_of_linear_regression(depth):
    found = capacity(linear((4,), 1, depth=depth, bias=False), MANY, num_tasks=4, lr=0.03)
    assert found.is_converged.all()
    floor = found.references["posterior mean"].loss.numpy()
    # Least squares and the posterior mean differ by the prior's weight, sigma^2 / (400 * eigenvalue >= 0.1) = 0.2 %
    # of the weights, and so by 1e-5 of a loss of 0.045; stopping at rest adds as much.
    np.testing.assert_allclose(found.loss, floor, rtol=2e-3)


def test_it_ends_at_the_least_squares_solution():
    found = capacity(linear((4,), 1, depth=1, bias=False), MANY, num_tasks=2, lr=0.03)
    episode = sample_tasks(MANY, seed=0, split="test", iteration=0, indices=range(2))
    for task in range(2):
        x, y = episode.support_x[task], episode.support_y[task]
        best = torch.linalg.lstsq(x, y).solution
        least = 0.5 * float((x @ best - y).square().mean())
        assert found.support_loss[task] == pytest.approx(least, rel=1e-6)
        query = 0.5 * float((episode.query_x[task] @ best - episode.query_y[task]).square().mean())
        assert found.loss[task] == pytest.approx(query, rel=1e-4)


def test_the_tasks_are_those_that_are_adapted_to_with_fewer_examples():
    few, many = (sample_tasks(t, seed=0, split="test", iteration=0, indices=range(3)) for t in (FEW, MANY))
    assert torch.equal(few.truth["weights"], many.truth["weights"])


def test_a_logistic_model_gets_as_good_as_the_true_weights():
    distribution = LogisticTasks(dimension=3, shots=1000, queries=1000, condition_number=1.0, dtype=DOUBLE)
    found = capacity(linear((3,), 2, depth=2, bias=False), distribution, num_tasks=3, lr=0.03)
    true = found.references["true weights"]
    # 3 weights fitted to 1000 points cost about 3 / 2000 nats.
    assert found.is_converged.all()
    assert (found.loss - true.loss.numpy()).mean() < 0.006
    assert (found.accuracy - true.accuracy.numpy()).mean() == pytest.approx(0.0, abs=0.02)


def test_tasks_do_not_touch_each_other():
    network = linear((4,), 1, depth=2)
    alone, together = (capacity(network, MANY, num_tasks=n, max_steps=300) for n in (1, 3))
    assert alone.num_steps == together.num_steps == 300
    # Only the order of sums may differ.
    assert alone.loss[0] == pytest.approx(together.loss[0], rel=1e-9)


def test_a_training_that_was_cut_short_says_so():
    found = capacity(linear((4,), 1, depth=1), MANY, num_tasks=2, lr=1e-4, max_steps=300)
    assert not found.is_converged.any()
    assert not capacity(linear((4,), 1, depth=1), MANY, num_tasks=2, max_steps=0).is_converged.any()


def test_tasks_without_noise_are_fitted_to_the_end():
    found = capacity(linear((4,), 1, depth=1, bias=False), replace(MANY, noise=0.0), num_tasks=2, lr=0.03)
    assert found.is_converged.all()
    assert found.loss.max() < 1e-6


def test_training_stops_once_every_task_is_below_the_loss_that_is_enough():
    found = capacity(linear((4,), 1, depth=1, bias=False), MANY, num_tasks=2, lr=0.03, stop_loss=0.5)
    assert found.num_steps < 2000
    assert found.is_converged.all()
    assert (found.support_loss < 0.5).all()
