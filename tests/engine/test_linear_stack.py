"""Linear layers appended to a network, collapsed into one, and compared."""

import pytest
import torch
from torch import nn

from mamlcli.common.errors import MamlError
from mamlcli.engine.initial import initial_params
from mamlcli.engine.linear_stack import (
    COLLAPSE_TOLERANCE,
    append_layers,
    collapse_difference,
    collapse_head,
    collapsed_network,
    collapsed_params,
    head_layer_names,
    parameter_counts,
)
from mamlcli.engine.networks import Network, apply_network, cnn, linear, mlp
from mamlcli.engine.objective import example_loss
from mamlcli.engine.sizes import count_parameters
from tests.helpers.numerics import DOUBLE, leaves, normal, perturbed


def stack(num_extra, width=None, *, bias=True, dtype=DOUBLE):
    """Return an MLP with a head of num_extra + 1 linear layers, every parameter (biases too) away from zero."""
    network = mlp((6,), 3, depth=1, width=5, linear_layers=num_extra, linear_width=width)
    if not bias:
        network = linear((6,), 3, depth=num_extra + 1, width=width, bias=False)
    params = initial_params(network, init="release", seed=1, dtype=DOUBLE)
    return network, {name: value.to(dtype) for name, value in perturbed(params, scale=0.3).items()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [None, 3, 9])
@pytest.mark.parametrize("num_extra", [0, 1, 2, 3])
def test_collapsed_head_gives_the_same_outputs_in_float64(num_extra, width, bias):
    network, params = stack(num_extra, width, bias=bias)
    collapsed, fewer = collapse_head(network, params)
    x = normal(7, 6, key="inputs")
    expected = apply_network(network, params, x)
    # A few products of matrices of ten entries a side: some 1e-15; 1e-12 is far below any wrong term.
    assert (apply_network(collapsed, fewer, x) - expected).abs().max() < 1e-12 * expected.abs().max()
    assert len(collapsed.head) == 1
    assert list(fewer) == list(collapsed.parameter_names())


@pytest.mark.parametrize("num_extra", [1, 2, 3])
def test_collapse_is_within_its_tolerance_in_float32(num_extra):
    network, params = stack(num_extra, dtype=torch.float32)
    _, relative = collapse_difference(network, collapsed_network(network), params, normal(50, 6, key="x").float())
    assert 0 < float(relative) < COLLAPSE_TOLERANCE[torch.float32]


def test_two_layers_collapse_to_their_product_and_the_biases_follow():
    network, params = stack(1)
    first, second = params["head.0.weight"], params["head.1.weight"]
    fewer = collapsed_params(network, params)
    # f(h) = W2 (W1 h + b1) + b2 = (W2 W1) h + (W2 b1 + b2)
    torch.testing.assert_close(fewer["head.0.weight"], second @ first)
    torch.testing.assert_close(fewer["head.0.bias"], second @ params["head.0.bias"] + params["head.1.bias"])
    assert fewer["body.0.weight"] is params["body.0.weight"]


def test_fast_weights_of_many_tasks_collapse_as_each_by_itself():
    network, params = stack(2)
    tasks = [perturbed(params, scale=0.1, key=f"task{i}") for i in range(3)]
    together = collapsed_params(network, {name: torch.stack([t[name] for t in tasks]) for name in params})
    for index, task in enumerate(tasks):
        for name, value in collapsed_params(network, task).items():
            torch.testing.assert_close(together[name][index], value)


def test_difference_is_relative_to_the_largest_output_and_zero_outputs_are_no_nan():
    network, params = stack(1)
    collapsed, x = collapsed_network(network), normal(5, 6, key="x")
    absolute, relative = collapse_difference(network, collapsed, params, x)
    torch.testing.assert_close(relative * apply_network(network, params, x).abs().max(), absolute)
    silent = {name: torch.zeros_like(value) for name, value in params.items()}
    assert [float(v) for v in collapse_difference(network, collapsed, silent, x)] == [0.0, 0.0]


def test_difference_sees_a_collapsed_model_that_is_another():
    network, params = stack(1)
    doubled = Network(nn.Sequential(*network.body, _Double()), collapsed_network(network).head, (6,))
    _, relative = collapse_difference(network, doubled, params, normal(5, 6, key="x"))
    assert relative > 0.1


class _Double(nn.Module):
    def forward(self, x):
        return 2 * x


def test_parameters_are_counted_as_trained_and_collapsed():
    network, params = stack(2, 9)
    # Body 6 x 5 + 5; head 5 -> 9 -> 9 -> 3 with biases, or 5 -> 3.
    assert parameter_counts(network, params) == (35 + 54 + 90 + 30, 35 + 18)


# Appending to a trained model ------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [None, 6, 11])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_appended_layers_leave_the_function_unchanged(num_layers, width, bias):
    network, params = stack(0, bias=bias)
    longer, more = append_layers(network, params, num_layers, width, seed=0)
    x = normal(20, 6, key="x")
    # Multiplying by ones and zeros is exact; sums may be taken in another order.
    assert (apply_network(longer, more, x) - apply_network(network, params, x)).abs().max() < 1e-12
    assert len(longer.head) == num_layers + 1


@pytest.mark.parametrize("width", [5, 8])
def test_appended_network_has_the_names_and_shapes_of_the_one_built_so(width):
    network, params = stack(0)
    longer, more = append_layers(network, params, 2, width, seed=0)
    built = mlp((6,), 3, depth=1, width=5, linear_layers=2, linear_width=width)
    assert {name: p.shape for name, p in longer.named_parameters()} == {
        name: p.shape for name, p in built.named_parameters()
    }
    assert {name: value.shape for name, value in more.items()} == {n: p.shape for n, p in built.named_parameters()}
    assert list(more) == list(longer.parameter_names())


def test_layers_are_appended_to_a_stack_behind_its_kept_layers():
    network, params = stack(1)
    longer, more = append_layers(network, params, 2, None, seed=0)
    x = normal(4, 6, key="x")
    assert len(longer.head) == 4
    assert more["head.0.weight"] is params["head.0.weight"]
    torch.testing.assert_close(apply_network(longer, more, x), apply_network(network, params, x))


def test_a_conv_network_takes_appended_layers_too():
    network = cnn((1, 8, 8), 4, depth=2, width=3, stride=2)
    params = perturbed(initial_params(network, init="release", seed=0, dtype=DOUBLE), scale=0.2)
    longer, more = append_layers(network, params, 1, None, seed=0)
    x = normal(6, 1, 8, 8, key="images")
    torch.testing.assert_close(apply_network(longer, more, x), apply_network(network, params, x))


def gradients(network, params):
    tracked = leaves(params)
    loss = example_loss(apply_network(network, tracked, normal(9, 6, key="x")), torch.arange(9) % 3)
    return dict(zip(tracked, torch.autograd.grad(loss, list(tracked.values())), strict=True))


@pytest.mark.parametrize("width", [5, 8])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_gradients_reach_every_tensor_of_the_appended_layers(num_layers, width):
    longer, more = append_layers(*stack(0), num_layers, width, seed=0)
    found = gradients(longer, more)
    for names in head_layer_names(longer):
        for name in names:
            assert found[name].abs().max() > 1e-3, name


def test_extra_units_get_gradients_and_wake_up_after_one_step():
    longer, more = append_layers(*stack(0), 1, 8, seed=0)
    found = gradients(longer, more)
    # Rows 5 to 7 of the first layer are the extra units; their outgoing columns are R.
    assert more["head.0.weight"][5:].abs().max() == 0
    assert (found["head.0.weight"][5:].abs().amax(dim=1) > 1e-3).all()
    assert found["head.1.weight"][:, 5:].abs().max() == 0
    moved = {name: value - 0.1 * found[name] for name, value in more.items()}
    assert (gradients(longer, moved)["head.1.weight"][:, 5:].abs().amax(dim=0) > 1e-4).all()


def test_extra_units_would_be_dead_were_both_their_weights_zero():
    longer, more = append_layers(*stack(0), 1, 8, seed=0)
    more["head.1.weight"][:, 5:] = 0
    found = gradients(longer, more)
    assert found["head.0.weight"][5:].abs().max() == 0
    assert found["head.1.weight"][:, 5:].abs().max() == 0


def test_the_random_part_depends_on_the_seed_alone():
    draws = [append_layers(*stack(0), 1, 8, seed=seed)[1]["head.1.weight"] for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_no_appended_layers_change_nothing():
    network, params = stack(0)
    longer, more = append_layers(network, params, 0, None, seed=0)
    assert longer is network
    assert more == params
    assert count_parameters(more) == count_parameters(params)


def test_a_width_below_the_inputs_of_the_last_map_is_refused():
    with pytest.raises(MamlError, match=r"model.linear_width: expected an integer >= 5 .*, got 4"):
        append_layers(*stack(0), 1, 4, seed=0)
