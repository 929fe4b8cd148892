"""The first weights of a network: of the seed alone, and distributed as they should be."""

import math

import pytest
import torch
from torch import nn

from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import cnn, mlp
from tests.helpers.numerics import DOUBLE


@pytest.mark.parametrize("init", ["release", "torch"])
def test_values_are_of_the_seed_alone(init):
    network = cnn((1, 8, 8), 3, depth=2, width=4)
    first, again = (initial_params(network, init=init, seed=5) for _ in range(2))
    other = initial_params(network, init=init, seed=6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["body.0.conv.weight"], other["body.0.conv.weight"])


@pytest.mark.parametrize("init", ["release", "torch"])
def test_layer_that_two_networks_share_starts_the_same(init):
    # The first blocks of a deeper network, and the body under appended layers.
    networks = [
        cnn((1, 8, 8), 3, depth=2, width=4),
        cnn((1, 8, 8), 3, depth=4, width=4),
        cnn((1, 8, 8), 3, depth=2, width=4, linear_layers=2),
        cnn((1, 8, 8), 3, depth=2, width=4, linear_layers=3),
    ]
    starts = [initial_params(network, init=init, seed=7) for network in networks]
    body = [name for name in starts[0] if name.startswith("body.")]
    assert len(body) == 8
    for other in starts[1:]:
        assert all(torch.equal(starts[0][name], other[name]) for name in body)
    assert torch.equal(starts[2]["head.0.weight"], starts[3]["head.0.weight"])
    assert torch.equal(starts[2]["head.1.weight"], starts[3]["head.1.weight"])


def test_tensors_of_one_shape_do_not_share_values():
    params = initial_params(mlp((6,), 3, depth=3, width=6), init="release", seed=0)
    assert not torch.equal(params["body.0.weight"], params["body.2.weight"])


def test_float32_start_is_the_float64_start_rounded():
    network = mlp((6,), 3, depth=1, width=4)
    exact = initial_params(network, init="torch", seed=0, dtype=DOUBLE)
    single = initial_params(network, init="torch", seed=0)
    assert all(torch.equal(single[name], exact[name].float()) for name in exact)


def test_release_start_is_xavier_with_zero_biases_and_uniform_norm_weights():
    network = cnn((3, 16, 16), 5, depth=2, width=64)
    params = initial_params(network, init="release", seed=0, dtype=DOUBLE)
    # Xavier uniform: sqrt(6 / (fan_in + fan_out)), fans times 9 for a 3x3 convolution.
    bounds = {
        "body.0.conv.weight": math.sqrt(6 / (9 * 3 + 9 * 64)),
        "body.1.conv.weight": math.sqrt(6 / (9 * 64 + 9 * 64)),
        "head.0.weight": math.sqrt(6 / (64 + 5)),
    }
    for name, bound in bounds.items():
        largest = float(params[name].abs().max())
        # Of n uniform values the largest falls short of the bound by 1/n of it; the smallest n is 320, and ten
        # times 1/320 is exceeded with probability e^-10.
        assert bound * (1 - 10 / params[name].numel()) < largest <= bound, name
    for name, value in params.items():
        if name.endswith("bias"):
            assert not value.any(), name
        if name.endswith("norm.weight"):
            assert 0 <= float(value.min()) < 0.2, name
            assert 0.8 < float(value.max()) < 1, name


def torch_default_samples(make, num):
    """Return the weights and biases of `num` layers as torch starts them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [make() for _ in range(num)]
    return (
        torch.cat([layer.weight.detach().flatten() for layer in layers]),
        torch.cat([layer.bias.detach().flatten() for layer in layers]),
    )


@pytest.mark.parametrize(
    ("name", "make"),
    [("body.0.conv", lambda: nn.Conv2d(2, 16, 3)), ("head.0", lambda: nn.Linear(16, 5))],
)
def test_torch_start_is_distributed_as_torch_starts_its_layers(name, make):
    network = cnn((2, 4, 4), 5, depth=1, width=16)
    starts = [initial_params(network, init="torch", seed=seed) for seed in range(300)]
    for part, theirs in zip(("weight", "bias"), torch_default_samples(make, 300), strict=True):
        ours = torch.cat([start[f"{name}.{part}"].flatten() for start in starts])
        num = ours.numel()
        assert num == theirs.numel() >= 1500
        # A uniform distribution is known by its range: of num values the largest falls short of the bound by
        # 1/num of it on average, by ten times as much with probability e^-10.
        assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=10 / num)
        # Variance of the variance of num uniform values: b^4 (1/5 - 1/9) / num = var^2 * 0.8 / num; the
        # difference of two has twice that; five standard deviations.
        assert float(ours.var()) == pytest.approx(float(theirs.var()), rel=5 * math.sqrt(2 * 0.8 / num))
        # Mean: standard deviation sqrt(var / num) each.
        assert abs(float(ours.mean())) < 5 * math.sqrt(float(theirs.var()) / num)


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_torch_start_leaves_norms_at_one_and_zero(norm):
    params = initial_params(cnn((1, 8, 8), 3, depth=1, width=4, norm=norm), init="torch", seed=0)
    assert torch.equal(params["body.0.norm.weight"], torch.ones(4))
    assert torch.equal(params["body.0.norm.bias"], torch.zeros(4))
