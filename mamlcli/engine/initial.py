"""Draw the first weights of a network, as the paper's release or as torch does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mamlcli.common.seeds import key_seed
from mamlcli.engine.networks import Network, Params


def initial_params(
    network: Network,
    *,
    init: str,
    seed: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Params:
    """Return freshly initialised parameters.

    Every tensor has a generator of its own, keyed by the seed and its name, so that two networks that share a
    layer (a deeper one, one with appended layers, one on another device) start with the same values in it.

    Args:
        network: the architecture.
        init: "release" (Xavier uniform weights, zero biases, norm weights U(0, 1)) or "torch" (weights and
            biases U(-b, b) with b = 1/sqrt(fan_in), norm weights 1, norm biases 0).
        seed: of the run.
        dtype: of the parameters; values are drawn in float64 and rounded.
        device: where they are put.

    Source: Arnold et al. 2021, released initialisation; PyTorch's defaults for Linear and Conv2d.
    """
    params: Params = {}
    for module_name, module in network.named_modules():
        tensors = dict(module.named_parameters(recurse=False))
        if not tensors:
            continue
        fan_in, fan_out = _fans(tensors["weight"])
        for name, parameter in tensors.items():
            full_name = f"{module_name}.{name}"
            generator = torch.Generator().manual_seed(key_seed(seed, "init", full_name))
            low, high = _uniform_range(name, init, is_norm=tensors["weight"].ndim == 1, fan_in=fan_in, fan_out=fan_out)
            value = torch.empty(parameter.shape, dtype=torch.float64).uniform_(low, high, generator=generator)
            params[full_name] = value.to(dtype=dtype).to(device)
    return params


def _fans(weight: Tensor) -> tuple[int, int]:
    """Return (inputs, outputs) of one unit, pixels of a convolution counted."""
    if weight.ndim < 2:
        return 1, 1
    receptive_field = math.prod(weight.shape[2:])
    return weight.shape[1] * receptive_field, weight.shape[0] * receptive_field


def _uniform_range(name: str, init: str, *, is_norm: bool, fan_in: int, fan_out: int) -> tuple[float, float]:
    """Return the ends of the uniform distribution of one tensor; equal ends mean a constant."""
    if is_norm:
        if name == "bias":
            return 0.0, 0.0
        return (0.0, 1.0) if init == "release" else (1.0, 1.0)
    if init == "release":
        bound = math.sqrt(6.0 / (fan_in + fan_out)) if name == "weight" else 0.0
    else:
        bound = 1.0 / math.sqrt(fan_in)
    return -bound, bound
