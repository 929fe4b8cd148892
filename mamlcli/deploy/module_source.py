"""This module writes a trained network as a Python file that needs torch and safetensors alone."""

from __future__ import annotations

import inspect

from torch import nn

from mamlcli.common.architecture import NUM_NORM_GROUPS
from mamlcli.engine.networks import (
    NORM_EPSILON,
    BatchStatisticsNorm,
    ConvBlock,
    GlobalMean,
    Network,
    norm_layer,
)
from mamlcli.training.experiment import Experiment

_HEADER = '''"""The network of {name}, with torch and safetensors alone. Written by mamlcli (MIT licence)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

NUM_NORM_GROUPS = {num_norm_groups!r}
NORM_EPSILON = {norm_epsilon!r}
'''

_LOAD = '''def load(folder: str | Path = Path(__file__).parent) -> Network:
    """Return the network with its weights."""
    network = Network(
        nn.Sequential({body}),
        nn.Sequential({head}),
        {input_shape!r},
    ).to({dtype})
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network
'''

_ADAPT = '''def adapt(
    network: nn.Module, support_x: Tensor, support_y: Tensor, lr: float = {lr!r}, steps: int = {steps!r}
) -> dict[str, Tensor]:
    """Return the parameters after gradient steps on a task's support set; functional_call(network, them, (x,))."""
    params = {{name: value.detach() for name, value in network.named_parameters()}}
    for _ in range(steps):
        moving = {{name: params[name].detach().requires_grad_() for name in ADAPTED}}
        outputs = functional_call(network, {{**params, **moving}}, (support_x,))
        gradients = torch.autograd.grad({loss}, list(moving.values()))
        for (name, value), gradient in zip(moving.items(), gradients):
            params[name] = (value - lr * gradient).detach()
    return params


ADAPTED = {adapted!r}
'''

# By whether the tasks are classifications.
_LOSSES = {
    True: "functional.cross_entropy(outputs, support_y)",
    False: "0.5 * (outputs - support_y).square().sum(dim=-1).mean()",
}


# These serve who does not know the network; in this file `load` states what it is.
_NOT_EXPORTED = ("num_outputs", "is_split", "has_features", "unmapped", "holder", "with_params")


def has_adapt(experiment: Experiment) -> bool:
    """Return whether module.py has `adapt`: it does where the inner loop is plain gradient descent of one rate."""
    inner = experiment.recipe.inner
    return inner.transform.name == "none" and inner.rates == "fixed" and not inner.joint_features


def module_source(experiment: Experiment) -> str:
    """Return a Python file that rebuilds an experiment's network without mamlcli.

    The layers' code is taken from the source of `mamlcli.engine.networks`, so that both compute the same.
    """
    network, recipe = experiment.network, experiment.recipe
    name = recipe.tasks.source
    parts = [_HEADER.format(name=name, num_norm_groups=NUM_NORM_GROUPS, norm_epsilon=NORM_EPSILON)]
    parts += _layer_sources(network)
    norm = getattr(recipe.model, "norm", "none")
    parts.append(
        _LOAD.format(
            body=", ".join(_expression(layer, norm) for layer in network.body),
            head=", ".join(_expression(layer, norm) for layer in network.head),
            input_shape=network.input_shape,
            dtype=f"torch.{recipe.execution.dtype}",
        )
    )
    if has_adapt(experiment):
        inner = experiment.objective().inner
        loss = _LOSSES[recipe.is_classification]
        parts.append(_ADAPT.format(lr=inner.lr, steps=inner.num_inner_steps, loss=loss, adapted=inner.adapted))
    return "\n\n".join(part.strip("\n") + "\n" for part in parts)


def _layer_sources(network: Network) -> list[str]:
    """Return the source of every class and function that the network's layers need."""
    blocks = [inspect.getsource(BatchStatisticsNorm), inspect.getsource(norm_layer), inspect.getsource(ConvBlock)]
    has_blocks = any(isinstance(layer, ConvBlock) for layer in network.body)
    network_source = inspect.getsource(Network)
    for name in _NOT_EXPORTED:
        member = vars(Network)[name]
        network_source = network_source.replace(inspect.getsource(getattr(member, "fget", member)), "")
    return [*(blocks if has_blocks else []), inspect.getsource(GlobalMean), network_source]


def _expression(layer: nn.Module, norm: str) -> str:
    """Return the Python expression that makes a layer like this one."""
    if isinstance(layer, nn.Linear):
        return f"nn.Linear({layer.in_features}, {layer.out_features}, bias={layer.bias is not None})"
    if isinstance(layer, ConvBlock):
        conv = layer.conv
        keys = f"stride={conv.stride[0]}, pool={layer.pool}, norm={norm!r}"
        return f"ConvBlock({conv.in_channels}, {conv.out_channels}, {keys})"
    if isinstance(layer, GlobalMean):
        return "GlobalMean()"
    assert isinstance(layer, nn.Flatten | nn.ReLU | nn.Tanh), f"no expression for {layer}"
    return f"nn.{type(layer).__name__}()"
