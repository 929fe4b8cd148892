"""Networks: shapes, names, and the norm written out."""

import pytest
import torch
from torch import nn
from torch.autograd import grad

from mamlcli.common.errors import MamlError
from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import (
    NORM_EPSILON,
    BatchStatisticsNorm,
    apply_network,
    cnn,
    linear,
    mlp,
)
from tests.helpers.numerics import DOUBLE, normal, relative_error


def outputs(network, x, part="all"):
    params = initial_params(network, init="release", seed=1, dtype=DOUBLE)
    return apply_network(network, params, x, part)


# Shapes and names


@pytest.mark.parametrize("norm", ["batch", "none", "group", "layer"])
@pytest.mark.parametrize("head", ["mean", "flatten"])
@pytest.mark.parametrize(
    ("stride", "pool", "side"),
    # Each block: conv 3x3 with padding 1, ceil(side / stride), then floor(side / pool):
    # 10 -> 10 -> 10;  10 -> 5 -> 2;  10 -> 5 -> 3.
    [(1, 1, 10), (1, 2, 2), (2, 1, 3)],
)
def test_cnn_shapes_follow_its_options(norm, head, stride, pool, side):
    network = cnn((3, 10, 10), 5, depth=2, width=4, stride=stride, pool=pool, norm=norm, head=head)
    x = normal(6, 3, 10, 10)
    assert outputs(network, x).shape == (6, 5)
    features = outputs(network, x, "body")
    assert features.shape == (6, 4 if head == "mean" else 4 * side * side)
    assert torch.equal(outputs(network, features, "head"), outputs(network, x))


def test_cnn_takes_images_that_are_not_square():
    # 9x5, stride 2: ceil(9 / 2) = 5, ceil(5 / 2) = 3.
    network = cnn((1, 9, 5), 3, depth=1, width=2, stride=2, head="flatten")
    assert outputs(network, normal(4, 1, 9, 5), "body").shape == (4, 2 * 5 * 3)
    assert outputs(network, normal(4, 1, 9, 5)).shape == (4, 3)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("input_shape", [(7,), (2, 3, 3)])
def test_mlp_shapes_follow_its_options(activation, input_shape):
    network = mlp(input_shape, 3, depth=2, width=6, activation=activation)
    x = normal(5, *input_shape)
    assert outputs(network, x).shape == (5, 3)
    assert outputs(network, x, "body").shape == (5, 6)


def test_mlp_is_its_formula():
    network = mlp((3,), 2, depth=2, width=4, activation="tanh")
    params = initial_params(network, init="torch", seed=2, dtype=DOUBLE)
    a, b, c = (params[f"{name}.weight"] for name in ("body.0", "body.2", "head.0"))
    p, q, r = (params[f"{name}.bias"] for name in ("body.0", "body.2", "head.0"))
    x = normal(5, 3)
    expected = torch.tanh(torch.tanh(x @ a.T + p) @ b.T + q) @ c.T + r
    # The same sums in the same order of layers: rounding alone.
    assert torch.allclose(apply_network(network, params, x), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("input_shape", [(6,), (1, 2, 3)])
def test_linear_network_collapses_into_one_map(depth, bias, input_shape):
    network = linear(input_shape, 2, depth=depth, width=4, bias=bias)
    params = initial_params(network, init="torch", seed=3, dtype=DOUBLE)
    assert sum(name.endswith("weight") for name in params) == depth
    assert any(name.endswith("bias") for name in params) == bias
    x = normal(5, *input_shape)
    zero = apply_network(network, params, torch.zeros(1, *input_shape, dtype=DOUBLE))
    # An affine map: its linear part by the outputs of the six unit vectors.
    units = torch.eye(6, dtype=DOUBLE).reshape(6, *input_shape)
    matrix = apply_network(network, params, units) - zero
    assert torch.allclose(apply_network(network, params, x), x.flatten(1) @ matrix + zero, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "network_of",
    [
        lambda **keys: cnn((1, 8, 8), 3, depth=1, width=6, **keys),
        lambda **keys: mlp((5,), 3, depth=1, width=6, **keys),
        lambda **keys: linear((6,), 3, **keys),
    ],
)
def test_appended_linear_layers_have_the_given_width(network_of):
    plain, appended = network_of(), network_of(linear_layers=2, linear_width=4)
    by_default = network_of(linear_layers=2)

    def head(network):
        return [tuple(p.shape) for name, p in network.named_parameters() if name.startswith("head.")]

    # 6 features and 3 outputs: 6 -> 4 -> 4 -> 3, by default 6 -> 6 -> 6 -> 3.
    assert head(plain) == [(3, 6), (3,)]
    assert head(appended) == [(4, 6), (4,), (4, 4), (4,), (3, 4), (3,)]
    assert head(by_default) == [(6, 6), (6,), (6, 6), (6,), (3, 6), (3,)]


def test_appended_layers_of_a_deep_linear_network_take_its_last_layers_place():
    network = linear((6,), 2, depth=2, width=5, linear_layers=1, linear_width=3, bias=False)
    # depth 2: 6 -> 5 -> 2; the last map 5 -> 2 becomes 5 -> 3 -> 2.
    assert [tuple(p.shape) for p in network.parameters()] == [(5, 6), (3, 5), (2, 3)]


def test_parameter_names_are_the_contract():
    network = cnn((1, 8, 8), 3, depth=2, width=4, linear_layers=1)
    assert network.parameter_names() == (
        "body.0.conv.weight",
        "body.0.conv.bias",
        "body.0.norm.weight",
        "body.0.norm.bias",
        "body.1.conv.weight",
        "body.1.conv.bias",
        "body.1.norm.weight",
        "body.1.norm.bias",
        "head.0.weight",
        "head.0.bias",
        "head.1.weight",
        "head.1.bias",
    )
    assert set(initial_params(network, init="release", seed=0)) == set(network.parameter_names())


def test_head_is_every_layer_after_the_last_non_linearity():
    network = mlp((5,), 3, depth=2, width=4, linear_layers=1)
    assert network.head_parameter_names() == ("head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias")


def test_head_of_a_linear_network_is_all_of_it():
    network = linear((2, 2), 3, depth=3)
    assert network.head_parameter_names() == network.parameter_names()
    assert len(network.parameter_names()) == 6


def test_outputs_are_those_of_the_last_layer():
    assert cnn((1, 8, 8), 3, depth=1, width=4, linear_layers=2).num_outputs == 3
    assert mlp((5,), 2, depth=1, width=4).num_outputs == 2
    assert linear((6,), 1, depth=3, width=4).num_outputs == 1


def test_too_deep_pooling_is_refused_and_names_the_depth():
    # 20 -> 5 -> 1 -> 0 with pool 4.
    cnn((3, 20, 20), 5, depth=2, width=4, pool=4)
    with pytest.raises(MamlError, match=r"model\.depth: expected at most 2 blocks .* got 3\."):
        cnn((3, 20, 20), 5, depth=3, width=4, pool=4)


@pytest.mark.parametrize(
    "network_of",
    [
        lambda width: mlp((5,), 3, depth=1, width=6, linear_layers=1, linear_width=width),
        lambda width: cnn((1, 8, 8), 3, depth=1, width=6, linear_layers=1, linear_width=width),
        lambda width: linear((6,), 3, linear_layers=1, linear_width=width),
    ],
)
def test_appended_layer_that_takes_capacity_away_is_refused(network_of):
    network_of(3)
    with pytest.raises(MamlError, match=r"model\.linear_width: expected an integer >= 3 .* got 2\."):
        network_of(2)


# The norms


def batch_norm_cases():
    """Return x, weight, bias with different means and scales per channel, all requiring grad."""
    x = 3 * normal(5, 3, 4, 4, key="x") * torch.tensor([0.5, 1, 2.0])[:, None, None] + 1.5
    weight, bias = 1 + 0.3 * normal(3, key="weight"), normal(3, key="bias")
    return [value.detach().requires_grad_(True) for value in (x, weight, bias)]


def ours(x, weight, bias):
    return torch.func.functional_call(BatchStatisticsNorm(3), {"weight": weight, "bias": bias}, (x,))


def fused(x, weight, bias):
    return nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=NORM_EPSILON)


def derivatives(norm):
    """Return the outputs, first derivatives, and second derivatives of a norm inside a non-linear function."""
    inputs = batch_norm_cases()
    out = norm(*inputs)
    first = grad((torch.tanh(out) * normal(*out.shape, key="seed 1")).sum(), inputs, create_graph=True)
    mixed = sum((value * normal(*value.shape, key=f"seed 2 {i}")).sum() for i, value in enumerate(first))
    second = grad(mixed, inputs)
    return [dict(enumerate(values)) for values in ([out], first, second)]


def test_batch_norm_equals_torchs_to_the_second_derivative():
    for order, (found, expected) in enumerate(zip(derivatives(ours), derivatives(fused), strict=True)):
        # Same function in another order of operations: rounding of sums over 80 pixels, amplified by the
        # cancellation of x - mean; 1e-12 leaves a factor of a hundred.
        assert relative_error(found, expected) < 1e-12, f"derivative {order}"


def test_mixed_second_derivative_of_batch_norm_is_right_under_vmap():
    # d/dx of dL/dweight, the derivative through an inner step on the norm's weight. Torch's fused norm has it wrong
    # by a few per cent in torch 2.15, and this is why the norm is written out.
    x, weight, bias = batch_norm_cases()
    tasks = normal(2, *x.shape, key="tasks")

    def squared_gradient(offset):
        slope = torch.func.grad(lambda v: torch.tanh(ours(x + offset, v, bias)).square().mean())(weight)
        return slope.square().sum()

    batched = grad(torch.func.vmap(squared_gradient)(tasks).sum(), x)
    one_by_one = grad(sum(squared_gradient(offset) for offset in tasks), x)
    # Sums in another order; rounding alone.
    assert relative_error({"x": batched[0]}, {"x": one_by_one[0]}) < 1e-12


def test_constant_channel_gives_finite_values_and_gradients():
    x = torch.zeros(2, 3, 4, 4, dtype=DOUBLE, requires_grad=True)
    weight, bias = torch.ones(3, dtype=DOUBLE), torch.full((3,), 2.0, dtype=DOUBLE)
    out = ours(x, weight, bias)
    assert torch.equal(out, torch.full_like(out, 2.0))
    assert torch.isfinite(grad(out.sum(), x)[0]).all()


@pytest.mark.parametrize(("norm", "num_groups"), [("group", 4), ("layer", 1)])
def test_group_and_layer_norm_do_not_see_the_other_images(norm, num_groups):
    # 12 channels: gcd(8, 12) = 4 groups.
    network = cnn((1, 6, 6), 3, depth=1, width=12, norm=norm)
    assert network.body[0].norm.num_groups == num_groups
    x = normal(4, 1, 6, 6)
    # Another batch size may take another kernel: rounding alone.
    assert torch.allclose(outputs(network, x)[:1], outputs(network, x[:1]), rtol=1e-12, atol=1e-14)


def test_batch_norm_sees_the_other_images():
    network = cnn((1, 6, 6), 3, depth=1, width=12, norm="batch")
    x = normal(4, 1, 6, 6)
    assert not torch.allclose(outputs(network, x)[:1], outputs(network, x[:1]), rtol=1e-3)
