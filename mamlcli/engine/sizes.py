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

    template = {name: torch.empty_like(value, device="meta") for name, value in network.named_parameters()}
    with FlopCounterMode(display=False) as counter:
        apply_network(network, template, torch.empty((1, *network.input_shape), device="meta"))
    return int(counter.get_total_flops())


def count_parameters(params: Mapping[str, Tensor]) -> int:
    """Return the number of entries of all tensors together."""
    return sum(tensor.numel() for tensor in params.values())


def activation_size(network: Network) -> int:
    """Return how many numbers one input leaves in all layers together, a measure of memory per image."""
    total = 0

    def count(module: nn.Module, args: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if not list(m.children())]
    try:
        template = {name: torch.empty_like(value, device="meta") for name, value in network.named_parameters()}
        apply_network(network, template, torch.empty((1, *network.input_shape), device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return total
