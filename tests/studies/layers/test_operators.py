"""What the layers of a stack do to gradients: closed forms, exact identities, finite steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlcli.engine.inner_loop import InnerLoop, adapt
from mamlcli.engine.linear_stack import collapsed_network, collapsed_params
from mamlcli.engine.networks import apply_network, linear, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams, example_loss
from mamlcli.engine.rates import with_rates
from mamlcli.engine.transforms import KFO, KFOMLP, Dense, Identity, MetaSGD
from mamlcli.studies.layers.operators import has_operator, layer_factors, movement_operator
from tests.helpers.layers import stack
from tests.helpers.numerics import DOUBLE, normal


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


def test_learned_rates_scale_the_operator_by_that_of_the_first_step():
    network, meta, inner = stack(2)
    rates = MetaParams(meta.model, {"*/rate": torch.tensor([2.0, 7.0], dtype=DOUBLE) * inner.lr})
    learned = replace(inner, transform=with_rates(Identity(), "step", lr=inner.lr, num_steps=2))
    np.testing.assert_allclose(
        movement_operator(network, rates, learned), 2.0 * movement_operator(network, meta, inner), rtol=1e-12
    )
    assert has_operator(MetaObjective(linear((4,), 1), learned))


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
    monkeypatch.setattr("mamlcli.studies.layers.operators.MAX_OPERATOR_SIZE", 14)
    assert movement_operator(*stack(2)) is None  # 3 outputs x (4 features + bias) = 15


def test_one_layer_without_transform_has_no_operator_to_speak_of():
    def has(network, transform):
        return has_operator(MetaObjective(network, InnerLoop((), 0.1, 1, transform=transform)))

    shallow, deep = mlp((3,), 2, depth=1, width=4), mlp((3,), 2, depth=1, width=4, linear_layers=1)
    assert [has(shallow, Identity()), has(deep, Identity()), has(shallow, KFO())] == [False, True, True]
