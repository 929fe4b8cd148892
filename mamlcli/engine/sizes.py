"""Count what a network costs: parameters, activations, operations."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mamlcli.engine.networks import Network, apply_network


def forward_flops(network: Network) -> int:
    """Return the floating-point operations of one input's forward pass, as torch counts them.

    They are two per multiply-add of convolutions and linear layers; norms and non-linearities count nothing.
    """
    from torch.utils.flop_counter import FlopCounterMode  # takes a third of a second to import

    with FlopCounterMode(display=False) as counter:
        _sketched(network)
    return int(counter.get_total_flops())


def count_parameters(params: Mapping[str, Tensor]) -> int:
    """Return the number of entries of all tensors together."""
    return sum(tensor.numel() for tensor in params.values())


def activation_size(network: Network) -> int:
    """Return how many numbers one input leaves in all layers together, a measure of memory per image."""
    total = 0

    def count(module: nn.Module, args: object, output: object) -> None:
        nonlocal total
        total += output.numel() if isinstance(output, Tensor) else 0  # a layer that was given may return several

    hooks = [m.register_forward_hook(count) for m in network.modules() if not list(m.children())]
    try:
        _sketched(network)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _sketched(network: Network) -> None:
    """Pass one input through a network; without memory, but through a module that was given from Python."""
    if network.is_split:
        template = {name: torch.empty_like(value, device="meta") for name, value in network.named_parameters()}
        apply_network(network, template, torch.empty((1, *network.input_shape), device="meta"))
        return
    params = {name: value.detach() for name, value in network.named_parameters()}
    like = next(iter(params.values()))
    with torch.no_grad():
        apply_network(network, params, like.new_zeros(1, *network.input_shape))
