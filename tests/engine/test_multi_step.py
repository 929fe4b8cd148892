"""Weights of the losses after each inner step: where they begin, how they go, where they end."""

import itertools

import pytest
import torch

from mamlcli.engine.multi_step import step_weights, weighted_scores


def test_weights_begin_equal_and_go_to_the_last_step():
    # K = 4, N = 10: w_k = (1 - i / 10) / 4 for the first three, the last has the rest.
    def weights(iteration):
        return step_weights(iteration, num_iterations=10, num_inner_steps=4)

    assert weights(0) == (0.25, 0.25, 0.25, 0.25)
    assert weights(4) == pytest.approx((0.15, 0.15, 0.15, 0.55), rel=1e-14)
    assert weights(9) == pytest.approx((0.025, 0.025, 0.025, 0.925), rel=1e-14)


@pytest.mark.parametrize("num_inner_steps", [2, 3, 5, 10])
def test_weights_sum_to_one_and_change_by_equal_amounts(num_inner_steps):
    rows = [step_weights(i, num_iterations=7, num_inner_steps=num_inner_steps) for i in range(7)]
    # Sums of at most ten numbers of order one.
    assert [sum(row) for row in rows] == pytest.approx([1.0] * 7, rel=1e-14)
    changes = [later[0] - earlier[0] for earlier, later in itertools.pairwise(rows)]
    assert changes == pytest.approx([-1 / 7 / num_inner_steps] * 6, rel=1e-12)


@pytest.mark.parametrize("iteration", [10, 11, 1000])
def test_from_the_last_iteration_on_no_step_but_the_last_is_scored(iteration):
    assert step_weights(iteration, num_iterations=10, num_inner_steps=4) is None


def test_without_a_multi_step_loss_no_step_but_the_last_is_scored():
    assert step_weights(0, num_iterations=None, num_inner_steps=4) is None


def test_scores_are_the_weighted_loss_and_the_last_accuracy():
    rows = torch.tensor([[[1.0, 10.0], [0.1, 0.2]], [[2.0, 20.0], [0.3, 0.4]]])
    loss, accuracy = weighted_scores((0.25, 0.75), list(rows))
    assert loss.tolist() == [1.75, 17.5]
    assert torch.equal(accuracy, rows[1, 1])
