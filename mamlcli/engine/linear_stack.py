"""Append linear layers to the end of a network, collapse them into one, compare outputs and sizes.

A stack of linear layers computes one affine map, so that it can express no more than a single layer; what it
changes is how gradient descent moves that map (`operators`). Weights may carry leading dimensions (one entry per
task), which every function but `append_layers` keeps.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mamlcli.common.errors import MamlError
from mamlcli.common.seeds import key_seed
from mamlcli.engine.networks import Network, Params, apply_network, linear_head
from mamlcli.engine.sizes import count_parameters

# Largest difference of outputs, relative to the largest output, that rounding alone explains: a product of a few
# layers is rounded some ten times, each by the precision of the type; the rest is margin for cancellation.
COLLAPSE_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def head_layer_names(network: Network) -> list[tuple[str, str | None]]:
    """Return (weight name, bias name or None) of each layer of the head, from the features to the outputs."""
    names: list[tuple[str, str | None]] = []
    for index, layer in enumerate(network.head):
        assert isinstance(layer, nn.Linear), "a head is linear layers only"
        names.append((f"head.{index}.weight", f"head.{index}.bias" if layer.bias is not None else None))
    return names


def collapsed_network(network: Network) -> Network:
    """Return the network with one linear layer for a head; the body is shared."""
    layers = [layer for layer in network.head if isinstance(layer, nn.Linear)]
    head = linear_head(
        layers[0].in_features,
        layers[-1].out_features,
        num_extra=0,
        extra_width=None,
        bias=any(layer.bias is not None for layer in layers),
    )
    return Network(network.body, head, network.input_shape)


def collapsed_params(network: Network, params: Mapping[str, Tensor]) -> Params:
    """Return the parameters of `collapsed_network` that compute the same function.

    E = W_L ... W_1,  c = b_L + W_L b_{L-1} + ... + W_L ... W_2 b_1.

    Args:
        network: whose head is collapsed.
        params: by name, complete; each head weight [..., out, in], each head bias [..., out].

    Returns:
        The parameters of the body as they are, `head.0.weight` [..., num_outputs, num_features], and
        `head.0.bias` [..., num_outputs] where a layer has a bias.

    Source: matrix products; Arnold et al. 2021, arXiv 1910.13603, for the use of such stacks.
    Differs from the source: no known deviation.
    """
    collapsed = {name: value for name, value in params.items() if not name.startswith("head.")}
    (first, first_bias), *upper = head_layer_names(network)
    weight, bias = params[first], None if first_bias is None else params[first_bias]
    for weight_name, bias_name in upper:
        weight = params[weight_name] @ weight
        bias = None if bias is None else (params[weight_name] @ bias.unsqueeze(-1)).squeeze(-1)
        if bias_name is not None:
            bias = params[bias_name] if bias is None else bias + params[bias_name]
    collapsed["head.0.weight"] = weight
    if bias is not None:
        collapsed["head.0.bias"] = bias
    return collapsed


def collapse_head(network: Network, params: Mapping[str, Tensor]) -> tuple[Network, Params]:
    """Multiply the head's linear layers into one; return the network and parameters of the collapsed model."""
    return collapsed_network(network), collapsed_params(network, params)


def append_layers(
    network: Network, params: Mapping[str, Tensor], num_layers: int, width: int | None, seed: int
) -> tuple[Network, Params]:
    """Append linear layers to a trained network so that its function is unchanged at the start.

    The last map W [o, d] becomes d -> w -> ... -> w -> o, n + 1 layers; with I_d the identity,
    first = [I_d; 0] [w, d],  the middle ones = I_w,  last = [W, R] [o, w],  so that last ... first = W.
    The new biases are zero, the last one is the old one. R [o, w - d] is random, Xavier uniform: the extra rows of
    the first layer are zero, and their gradient, (R^T dL/df) h^T, is not, as R is not. Were R zero too, both
    gradients would vanish, for ever: the extra units would be dead. (R itself has no gradient until the first
    step has moved those rows; every tensor as a whole has one from the start.) For w = d nothing is random.

    Args:
        network: trained; a head that is a stack already gets a longer one.
        params: its parameters, without leading dimensions.
        num_layers: n, layers to append; with 0 the network is returned as it is.
        width: w, at least d; by default d.
        seed: of R.

    Returns:
        The network, named as the one built with n more `linear_layers`, and its parameters.

    Raises:
        MamlError: w < d, where the first layer could not start as the identity.

    Source: Arnold et al. 2021, arXiv 1910.13603, appends linear layers before meta-training; a start that keeps
        the function is that of Chen et al. 2016, Net2Net, arXiv 1511.05641, equations 2 and 6.
    Differs from the source: layers without non-linearity; Net2Net widens by copies, we by units that start at 0.
    """
    if num_layers == 0:
        return network, dict(params)
    *kept, last = network.head
    assert isinstance(last, nn.Linear), "a head is linear layers only"
    num_features = last.in_features
    width = num_features if width is None else width
    if width < num_features:
        raise MamlError(
            "model.linear_width",
            expected=f"an integer >= {num_features} (the inputs of the last map)",
            got=str(width),
            why="Layers appended to a trained model start as the identity, which needs a unit for each of them",
        )
    has_bias = last.bias is not None
    appended = linear_head(num_features, last.out_features, num_extra=num_layers, extra_width=width, bias=has_bias)
    longer = Network(network.body, nn.Sequential(*kept, *appended), network.input_shape)
    values = {name: value for name, value in params.items() if not name.startswith(f"head.{len(kept)}.")}
    return longer, values | _start_of_appended(longer, params, num_kept=len(kept), width=width, seed=seed)


def _start_of_appended(
    longer: Network, params: Mapping[str, Tensor], *, num_kept: int, width: int, seed: int
) -> Params:
    """Return the parameters of the head's layers from index `num_kept` on, as `append_layers` starts them."""
    trained, bias = params[f"head.{num_kept}.weight"], params.get(f"head.{num_kept}.bias")
    num_outputs, num_features = trained.shape
    top = len(longer.head) - 1
    values: Params = {}
    for index in range(num_kept, top):
        size_in = num_features if index == num_kept else width
        values[f"head.{index}.weight"] = torch.eye(width, size_in, dtype=trained.dtype, device=trained.device)
        if bias is not None:
            values[f"head.{index}.bias"] = trained.new_zeros(width)
    extra = _xavier(num_outputs, width, num_features, seed=key_seed(seed, "append", f"head.{top}.weight"))
    values[f"head.{top}.weight"] = torch.cat([trained, extra.to(trained)], dim=1)
    if bias is not None:
        values[f"head.{top}.bias"] = bias.clone()
    return values


def _xavier(num_outputs: int, width: int, num_kept: int, *, seed: int) -> Tensor:
    """Return the columns `num_kept` to `width` of a Xavier uniform weight, float64."""
    bound = (6.0 / (width + num_outputs)) ** 0.5
    generator = torch.Generator().manual_seed(seed)
    shape = (num_outputs, width - num_kept)
    return torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)


def collapse_difference(
    network: Network, collapsed: Network, params: Mapping[str, Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    """Return how far the outputs of a stack and of its collapsed model are apart, for one task.

    absolute = max |f(x) - f_collapsed(x)|,  relative = absolute / max |f(x)|, over inputs and outputs.
    Relative to the largest output, as a single one may cancel to zero. Can be vmapped over tasks.

    Args:
        network: the stack.
        collapsed: what `collapsed_network` gives for it.
        params: of the stack, complete; fast weights as a rule.
        x: [n, *input_shape] float.

    Returns:
        (absolute, relative), scalars.
    """
    outputs = apply_network(network, params, x)
    difference = (outputs - apply_network(collapsed, collapsed_params(network, params), x)).abs().amax()
    # Keeps 0 / 0 from a network whose outputs are all zero (a last layer at zero) out of the maximum.
    size = outputs.abs().amax().clamp(min=torch.finfo(outputs.dtype).tiny)
    return difference, difference / size


def parameter_counts(network: Network, params: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the number of parameters as trained, and after the collapse; `params` without leading dimensions."""
    return count_parameters(params), count_parameters(collapsed_params(network, params))
