"""What the layers of a stack do to gradients: closed forms, exact identities, finite steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlcli.engine.execution import Execution
from mamlcli.engine.initial import initial_params
from mamlcli.engine.inner_loop import InnerLoop, adapt
from mamlcli.engine.linear_stack import collapsed_network, collapsed_params
from mamlcli.engine.networks import apply_network, linear, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams, example_loss, inner_loop_for
from mamlcli.engine.transforms import KFO, KFOMLP, Dense, Identity, MetaSGD
from mamlcli.studies.layers.operators import has_operator, layer_factors, movement_operator
from mamlcli.studies.layers.optimum import compare_with_optimum, operator_distance
from mamlcli.tasks.closed_forms import optimal_preconditioner
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks
from tests.helpers.numerics import DOUBLE, normal, perturbed

BATCHED = Execution("batched", 500)


def stack(depth, *, num_outputs=3, bias=True, transform=None, lr=0.1, num_steps=1, adapt_patterns=None):
    """Return network, meta-parameters (all away from their start) and inner loop of a linear stack."""
    network = linear((4,), num_outputs, depth=depth, width=5, bias=bias)
    inner = inner_loop_for(
        "maml", network, lr=lr, num_inner_steps=num_steps, adapt_patterns=adapt_patterns, transform=transform
    )
    model = perturbed(initial_params(network, init="release", seed=0, dtype=DOUBLE), scale=0.3)
    xi = inner.transform.init({name: model[name] for name in inner.adapted}, 0)
    return network, MetaParams(model, perturbed(xi, scale=0.2, key="xi")), inner


def joined(collapsed):
    """Return [W, b] of a collapsed head, or W without biases."""
    parts = [collapsed["head.0.weight"]]
    if "head.0.bias" in collapsed:
        parts.append(collapsed["head.0.bias"].unsqueeze(-1))
    return torch.cat(parts, dim=1)


def movement_and_gradient(network, meta, inner):
    """Return how far the inner loop moves the collapsed map, and the collapsed map's gradient at the start."""
    x, labels = normal(12, 4, key="support"), torch.arange(12) % 3
    start = joined(collapsed_params(network, meta.model))
    fast = adapt(
        lambda w: example_loss(apply_network(network, {**meta.model, **w}, x), labels),
        meta.model,
        meta.transform,
        inner,
    ).fast_weights
    moved = joined(collapsed_params(network, {**meta.model, **fast})) - start
    one = {name: v.requires_grad_(True) for name, v in collapsed_params(network, meta.model).items()}
    example_loss(apply_network(collapsed_network(network), one, x), labels).backward()
    return moved.detach(), joined({name: value.grad for name, value in one.items()})


# Closed forms ----------------------------------------------------------------------------------------------


def two_layers(first, second):
    network = linear((first.shape[1],), 1, depth=2, width=len(first), bias=False)
    return network, MetaParams({"head.0.weight": first, "head.1.weight": second}, {})


def test_a_layer_below_makes_its_gram_matrix_the_operator():
    # f(x) = v.(A x): moving v alone moves w = A^T v by -alpha A^T A g.
    first, second = normal(4, 4, key="A"), normal(1, 4, key="v")
    network, meta = two_layers(first, second)
    only_upper = movement_operator(network, meta, InnerLoop(("head.1.weight",), 0.1, 1))
    np.testing.assert_allclose(only_upper, (first.T @ first).numpy(), atol=1e-13)
    # Moving A too adds |v|^2 I.
    both = movement_operator(network, meta, InnerLoop(network.parameter_names(), 0.1, 1))
    expected = first.T @ first + second.square().sum() * torch.eye(4, dtype=DOUBLE)
    np.testing.assert_allclose(both, expected.numpy(), atol=1e-13)


@pytest.mark.parametrize("alpha", [0.01, 0.5])
def test_when_the_middle_of_three_layers_moves_the_collapsed_map_moves_as_under_linear_kfo(alpha):
    # E = U W A; W moves by -alpha U^T G A^T, so E moves by exactly -alpha (U U^T) G (A^T A), at any alpha.
    network, meta, inner = stack(3, bias=False, lr=alpha, adapt_patterns=["head.1.weight"])
    moved, gradient = movement_and_gradient(network, meta, inner)
    (factors,) = layer_factors(network, meta.model, inner.adapted)
    left, right = torch.from_numpy(factors.left), torch.from_numpy(factors.right)
    upper, lower = meta.model["head.2.weight"], meta.model["head.0.weight"]
    torch.testing.assert_close(left, upper @ upper.T)
    torch.testing.assert_close(right, lower.T @ lower)
    torch.testing.assert_close(moved, -alpha * left @ gradient @ right, rtol=1e-10, atol=1e-13)
    assert factors.share == 1.0


@pytest.mark.parametrize("patterns", [None, ["head.*.bias"], ["head.0.*", "head.1.weight"], ["*.weight"]])
@pytest.mark.parametrize("transform", [None, KFO(), MetaSGD(), Dense()])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_operator_predicts_a_step_to_first_order_in_alpha(depth, transform, patterns):
    errors = []
    if depth == 1 and patterns == ["head.0.*", "head.1.weight"]:
        patterns = ["head.0.*"]
    for alpha in (1e-3, 5e-4):
        network, meta, inner = stack(depth, transform=transform, lr=alpha, adapt_patterns=patterns)
        total = torch.from_numpy(movement_operator(network, meta, inner))
        moved, gradient = movement_and_gradient(network, meta, inner)
        predicted = -alpha * (total @ gradient.flatten()).reshape(gradient.shape)
        errors.append(float((moved - predicted).norm() / moved.norm()))
    assert errors[0] < 0.02
    # The neglected terms are O(alpha^2) beside a movement O(alpha): half the alpha, half the relative error
    # (1e-12 where one layer, or biases alone, leave none). Higher terms are another factor 1e-3 smaller.
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.05, abs=1e-12)


def test_operator_is_the_sum_of_the_layers_kronecker_factors_and_positive_semi_definite():
    network, meta, inner = stack(3)
    total = movement_operator(network, meta, inner)
    factors = layer_factors(network, meta.model, inner.adapted)
    np.testing.assert_allclose(total, sum(np.kron(f.left, f.right.T) for f in factors), atol=1e-12)
    np.testing.assert_allclose(total, total.T, atol=1e-12)
    assert np.linalg.eigvalsh(total).min() > 0
    assert sum(f.share for f in factors) == pytest.approx(1.0)
    assert [f.share for f in factors] == pytest.approx(
        [np.trace(f.left) * np.trace(f.right) / np.trace(total) for f in factors]
    )


def test_a_dense_transform_on_one_layer_is_the_operator():
    network, meta, inner = stack(1, num_outputs=1, bias=False, transform=Dense())
    total = movement_operator(network, meta, inner)
    np.testing.assert_allclose(total, meta.transform["head.0.weight/matrix"].numpy())


def test_spectra_go_from_the_largest_down():
    network, meta, inner = stack(2)
    for factors in layer_factors(network, meta.model, inner.adapted):
        assert (np.diff(factors.left_spectrum) <= 0).all()
        np.testing.assert_allclose(factors.right_spectrum[0], np.linalg.norm(factors.right, 2))


def test_no_matrix_where_the_transform_is_not_linear_or_the_head_too_large(monkeypatch):
    assert movement_operator(*stack(2, transform=KFOMLP())) is None
    monkeypatch.setattr("mamlcli.studies.sweeps.axes.layers.operators.MAX_OPERATOR_SIZE", 14)
    assert movement_operator(*stack(2)) is None  # 3 outputs x (4 features + bias) = 15


def test_one_layer_without_transform_has_no_operator_to_speak_of():
    def has(network, transform):
        return has_operator(MetaObjective(network, InnerLoop((), 0.1, 1, transform=transform)))

    shallow, deep = mlp((3,), 2, depth=1, width=4), mlp((3,), 2, depth=1, width=4, linear_layers=1)
    assert [has(shallow, Identity()), has(deep, Identity()), has(shallow, KFO())] == [False, True, True]


# The best operator -----------------------------------------------------------------------------------------


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
