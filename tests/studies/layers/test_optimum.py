"""The best operator of linear regression, and how near learned ones come to it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import linear
from mamlcli.engine.objective import MetaObjective, MetaParams, inner_loop_for
from mamlcli.studies.layers.operators import movement_operator
from mamlcli.studies.layers.optimum import compare_with_optimum, operator_distance
from mamlcli.tasks.closed_forms import optimal_preconditioner
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks
from tests.helpers.layers import stack
from tests.helpers.numerics import DOUBLE, normal

BATCHED = Execution("batched", 500)


def tasks(**settings):
    return LinearRegressionTasks(
        **{
            "dimension": 3,
            "shots": 20,
            "queries": 5,
            "noise": 0.3,
            "condition_number": 9.0,
            "dtype": DOUBLE,
            **settings,
        }
    )


def test_distance_counts_directions_by_what_inputs_have_of_them():
    # Sx = diag(4, 1): in white coordinates D = diag(a, b) is diag(4 a, b).
    cov = torch.diag(torch.tensor([4.0, 1.0], dtype=DOUBLE))
    optimal, found = (torch.diag(torch.tensor(v, dtype=DOUBLE)) for v in ([1.0, 2.0], [2.0, 2.0]))
    distance, scale, scaled = operator_distance(found, optimal, cov)
    # diag(8, 2) beside diag(4, 2): |difference| = 4, |goal| = sqrt(20), c = (32 + 4) / 68.
    assert distance == pytest.approx(4 / 20**0.5)
    assert scale == pytest.approx(36 / 68)
    assert scaled == pytest.approx(np.hypot(8 * 36 / 68 - 4, 2 * 36 / 68 - 2) / 20**0.5)


def test_a_multiple_of_the_best_operator_has_its_shape():
    cov = tasks().input_covariance()
    optimal = normal(3, 3, key="optimal")
    distance, scale, scaled = operator_distance(0.25 * optimal, optimal, cov)
    assert (distance, scale) == (pytest.approx(0.75), pytest.approx(4.0))
    assert scaled < 1e-12
    assert operator_distance(torch.zeros(3, 3, dtype=DOUBLE), optimal, cov) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("bias", [False, True])
def test_the_stack_that_holds_the_best_preconditioner_is_at_distance_zero(bias):
    # v = 0, A^T A = D* / alpha: the first step moves v alone, and w by -D* g.
    distribution, alpha = tasks(), 0.2
    optimal = optimal_preconditioner(
        distribution.input_covariance(), distribution.task_covariance(), shots=20, noise=0.3
    )
    first = torch.linalg.cholesky(optimal / alpha).T
    network = linear((3,), 1, depth=2, bias=bias)
    model = {name: torch.zeros_like(p, dtype=DOUBLE) for name, p in network.named_parameters()}
    model |= {"head.0.weight": first}
    meta = MetaParams({name: value.detach() for name, value in model.items()}, {})
    objective = MetaObjective(network, inner_loop_for("maml", network, lr=alpha, num_inner_steps=1))
    episode = sample_tasks(distribution, seed=0, split="test", iteration=0, indices=range(40))
    total = movement_operator(network, meta, objective.inner)
    found = compare_with_optimum(objective, meta, distribution, [episode], BATCHED, total=total)
    for row in (found.one_step, found.all_steps):
        assert row.distance < 1e-9
        assert row.scale == pytest.approx(1.0)
        assert row.loss == pytest.approx(found.optimal.loss)
    assert found.all_steps_explained == pytest.approx(1.0)
    assert found.plain.distance > 0.1
    assert found.plain.loss > found.optimal.loss


def test_an_adaptation_that_reaches_the_posterior_mean_has_the_best_operator_over_all_steps():
    # By the tower rule the regression of E[t | S] on -g is that of t on -g, D*. Gradient descent without noise,
    # run to the end, reaches the posterior mean (the exact weights). 4000 tasks: each entry of the regression of
    # t on g is known to some sqrt(residual / 4000) = 2 %.
    distribution = tasks(shots=8, noise=0.0, condition_number=2.0)
    network = linear((3,), 1, depth=1, bias=False)
    meta = MetaParams({"head.0.weight": torch.zeros(1, 3, dtype=DOUBLE)}, {})
    objective = MetaObjective(network, inner_loop_for("fomaml", network, lr=0.3, num_inner_steps=400))
    episode = sample_tasks(distribution, seed=0, split="test", iteration=0, indices=range(4000))
    found = compare_with_optimum(objective, meta, distribution, [episode], Execution("batched", 4000), total=None)
    assert found.one_step is None
    assert found.all_steps.distance < 0.05
    assert 0.3 < found.all_steps_explained < 0.95  # the weights are no linear map of the gradient


def test_too_few_tasks_give_no_fitted_operator():
    network, meta, _ = stack(1, num_outputs=1, bias=False)
    distribution = replace(tasks(), dimension=4)
    objective = MetaObjective(network, inner_loop_for("maml", network, lr=0.1, num_inner_steps=1))
    episode = sample_tasks(distribution, seed=0, split="test", iteration=0, indices=range(7))
    found = compare_with_optimum(objective, meta, distribution, [episode], BATCHED, total=None)
    assert found.all_steps is None
    assert found.all_steps_explained is None


def test_an_adaptation_that_diverges_on_a_task_has_an_operator_that_is_no_number():
    network, meta, _ = stack(1, num_outputs=1, bias=False)
    distribution = replace(tasks(), dimension=4)
    objective = MetaObjective(network, inner_loop_for("maml", network, lr=1e200, num_inner_steps=3))
    episode = sample_tasks(distribution, seed=0, split="test", iteration=0, indices=range(20))
    found = compare_with_optimum(objective, meta, distribution, [episode], BATCHED, total=None)
    assert np.isnan([found.all_steps.distance_scaled, found.all_steps_explained, *found.all_steps.spectrum]).all()
    assert np.isfinite(found.optimal.spectrum).all()
