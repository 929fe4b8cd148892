"""Find the layers over many tasks that compute a network: those of `layers`, `convolution`, `norms`, `input_block`."""

from __future__ import annotations

from torch import nn

from mamlcli.engine.explicit.convolution import TaskConv
from mamlcli.engine.explicit.input_block import TaskInputBlock, joined
from mamlcli.engine.explicit.layers import (
    TaskFlatten,
    TaskGlobalMean,
    TaskLayer,
    TaskLinear,
    TaskMaxPool,
    TaskReLU,
    TaskTanh,
)
from mamlcli.engine.explicit.norms import TaskBatchNorm, TaskGroupNorm
from mamlcli.engine.networks import BatchStatisticsNorm, ConvBlock, GlobalMean, Network


class NotCoveredError(Exception):
    """A network has a layer whose derivatives are not written out."""


def layers_of(network: Network, part: str, device_type: str) -> list[TaskLayer]:
    """Return the task layers of a network.

    Args:
        network: the architecture.
        part: "all", "body" or "head".
        device_type: "cpu", "cuda" or "mps".

    Raises:
        NotCoveredError: a layer whose derivatives are not written out.
    """
    modules = [*(network.body if part != "head" else ()), *(network.head if part != "body" else ())]
    prefixes = [
        *(f"body.{i}" for i in range(len(network.body)) if part != "head"),
        *(f"head.{i}" for i in range(len(network.head)) if part != "body"),
    ]
    shape = network.input_shape if part != "head" else ()
    layers: list[TaskLayer] = []
    for prefix, module in zip(prefixes, modules, strict=True):
        added, shape = _layers_of(prefix, module, shape, device_type, is_first=not layers)
        layers += added
    return joined(layers)


def _layers_of(
    prefix: str, module: nn.Module, shape: tuple[int, ...], device_type: str, *, is_first: bool
) -> tuple[list[TaskLayer], tuple[int, ...]]:
    """Return the task layers of a module and the shape that follows it."""
    names = tuple(f"{prefix}.{name}" for name, _ in module.named_parameters())
    if isinstance(module, ConvBlock):
        return _block(prefix, module, shape, device_type, is_first=is_first)
    if isinstance(module, nn.Linear):
        return [TaskLinear(names)], ()
    if isinstance(module, nn.ReLU):
        return [TaskReLU()], ()
    if isinstance(module, nn.Tanh):
        return [TaskTanh()], ()
    if isinstance(module, GlobalMean):
        return [TaskGlobalMean()], ()
    if isinstance(module, nn.Flatten):
        return [TaskFlatten()], ()
    raise NotCoveredError(f"{prefix}: {type(module).__name__}")


def _block(
    prefix: str, block: ConvBlock, shape: tuple[int, ...], device_type: str, *, is_first: bool
) -> tuple[list[TaskLayer], tuple[int, ...]]:
    channels, height, width = shape
    stride = int(block.conv.stride[0])
    high, wide = (height - 1) // stride + 1, (width - 1) // stride + 1
    is_batch = isinstance(block.norm, BatchStatisticsNorm)
    num_first = getattr(block.norm, "num_first", None)
    convolution = TaskConv(
        (f"{prefix}.conv.weight", f"{prefix}.conv.bias"),
        stride,
        is_unfolded=device_type != "cpu" or _is_better_unfolded(channels, stride, high * wide),
        has_bias=not is_batch,
    )
    norm_names = (f"{prefix}.norm.weight", f"{prefix}.norm.bias")
    layers: list[TaskLayer]
    if is_first and is_batch and num_first is None and channels <= _MOST_CHANNELS:
        layers = [TaskInputBlock((*convolution.names, *norm_names), convolution)]
    elif is_batch:
        layers = [convolution, TaskBatchNorm(norm_names, num_first), TaskReLU()]
    elif isinstance(block.norm, nn.GroupNorm):
        layers = [convolution, TaskGroupNorm(norm_names, block.norm.num_groups), TaskReLU()]
    else:
        layers = [convolution, TaskReLU()]
    if block.pool > 1:
        layers.append(TaskMaxPool(block.pool))
    return layers, (block.conv.out_channels, high // block.pool, wide // block.pool)


# Images of so many channels, at most, are cheap to gather into patches.
_MOST_CHANNELS = 4


def _is_better_unfolded(in_channels: int, stride: int, num_pixels: int) -> bool:
    """Return whether a CPU multiplies patches faster than it convolves, as measured on the shapes of shipped recipes.

    Patches of stride 2 repeat a pixel 2.25 times, those of stride 1 nine times: there, only small images gain.
    """
    return in_channels <= _MOST_CHANNELS or stride > 1 or num_pixels <= 100
