"""Compute a network for a chunk of tasks at once: outputs, gradients, and Hessians times vectors, without vmap.

`TaskNetwork` is a stack of `TaskLayer`s on flat parameters [num_tasks, num_parameters]; the autograd functions below
let the inner loop differentiate through it like through any other loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mamlcli.engine.explicit.compilation import compiled
from mamlcli.engine.explicit.convolution import TaskConv
from mamlcli.engine.explicit.input_block import TaskInputBlock, joined
from mamlcli.engine.explicit.layers import (
    Saved,
    TaskFlatten,
    TaskGlobalMean,
    TaskLayer,
    TaskLinear,
    TaskMaxPool,
    TaskReLU,
    TaskTanh,
    Tensors,
)
from mamlcli.engine.explicit.layout import Layout
from mamlcli.engine.explicit.losses import loss_gradient, loss_gradient_tangent
from mamlcli.engine.explicit.norms import TaskBatchNorm, TaskGroupNorm
from mamlcli.engine.networks import BatchStatisticsNorm, ConvBlock, GlobalMean, Network


class NotCoveredError(Exception):
    """A network has a layer whose derivatives are not written out."""


class ForwardPass(NamedTuple):
    """What `pull_back` needs of a forward pass.

    Attributes:
        parameters: of each layer.
        saved: by each layer.
    """

    parameters: list[Tensors]
    saved: list[Saved]


class GradientPass(NamedTuple):
    """What `hessian_vector` needs of a pass forward and back.

    Attributes:
        parameters: of each layer.
        saved: by each layer.
        gradients: for each layer that of its output, and those of its parameters.
        probabilities: of the classes; None for regression.
    """

    parameters: list[Tensors]
    saved: list[Saved]
    gradients: list[tuple[Tensor, Tensors]]
    probabilities: Tensor | None


class TaskNetwork:
    """Computes layers on flat parameters, for a chunk of tasks.

    Args:
        network: the architecture.
        part: "all", "body" or "head".
        first: names of parameters that come first in the flat vector (those that adapt).
        device_type: "cpu", "cuda" or "mps"; chooses how convolutions are computed.
        is_compiled: whether `gradient`, `hessian_vector`, `features` and `pull_back` go through `torch.compile`.

    Raises:
        NotCoveredError: a layer whose derivatives are not written out.
    """

    def __init__(
        self, network: Network, *, part: str, first: Sequence[str], device_type: str, is_compiled: bool = False
    ) -> None:
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
        self.layers = joined(layers)
        names = [name for layer in self.layers for name in layer.names]
        ordered = (*(name for name in names if name in first), *(name for name in names if name not in first))
        shapes = dict(network.named_parameters())
        self.layout = Layout(ordered, tuple(tuple(shapes[name].shape) for name in ordered))
        self._is_image = (
            part != "head"
            and len(network.input_shape) == 3
            and any(isinstance(layer, TaskConv | TaskInputBlock | TaskFlatten) for layer in self.layers[:1])
        )
        if is_compiled:
            for name in ("gradient", "hessian_vector", "features", "pull_back"):
                setattr(self, name, compiled(getattr(self, name)))

    def prepared(self, x: Tensor) -> Tensor:
        """Return the inputs [num_tasks, n, *input_shape] as the first layer takes them."""
        if not self._is_image:
            return x
        x = x.movedim(2, -1).contiguous()
        first = self.layers[0]
        return first.prepared(x) if isinstance(first, TaskConv | TaskInputBlock) else x

    def _parameters(self, flat: Tensor) -> list[Tensors]:
        views = self.layout.views(flat) if self.layout.names else {}
        return [tuple(views[name] for name in layer.names) for layer in self.layers]

    def outputs(self, flat: Tensor, x: Tensor) -> Tensor:
        """Return the outputs [num_tasks, n, num_outputs]; no derivative is kept.

        Args:
            flat: [num_tasks, num_parameters].
            x: inputs, prepared.
        """
        return self._forward(self._parameters(flat), x)[0]

    def _forward(self, parameters: list[Tensors], x: Tensor) -> tuple[Tensor, list[Saved]]:
        saved = []
        for layer, p in zip(self.layers, parameters, strict=True):
            x, saved_by_layer = layer.forward(p, x)
            saved.append(saved_by_layer)
        return x, saved

    def _backward(
        self, parameters: list[Tensors], saved: list[Saved], g: Tensor, with_input: bool
    ) -> tuple[Tensor | None, list[tuple[Tensor, Tensors]]]:
        """Return (gradient of the input; for each layer the gradient of its output and those of its parameters)."""
        gradients = []
        gx: Tensor | None = g
        for index in reversed(range(len(self.layers))):
            assert gx is not None
            gy = gx
            gx, gp = self.layers[index].backward(parameters[index], saved[index], gy, with_input or index > 0)
            gradients.append((gy, gp))
        return gx, gradients[::-1]

    def features(self, flat: Tensor, x: Tensor) -> tuple[Tensor, ForwardPass]:
        """Return the outputs and what `pull_back` needs."""
        parameters = self._parameters(flat)
        y, saved = self._forward(parameters, x)
        return y, ForwardPass(parameters, saved)

    def pull_back(self, forward_pass: ForwardPass, gy: Tensor, with_input: bool) -> tuple[Tensor, Tensor | None]:
        """Return the gradients of the parameters, flat, and of the input, for a gradient of the outputs."""
        gx, gradients = self._backward(*forward_pass, gy, with_input)
        return self._joined([gp for _, gp in gradients]), gx

    def _joined(self, gradients: Sequence[Tensors]) -> Tensor:
        """Return the gradients of each layer's parameters as one vector for each task."""
        pairs = (zip(layer.names, gp, strict=False) for layer, gp in zip(self.layers, gradients, strict=True))
        by_name = {name: value for of_layer in pairs for name, value in of_layer}
        return torch.cat([by_name[name].flatten(1) for name in self.layout.names], dim=1)

    def gradient(self, flat: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, GradientPass]:
        """Return the gradient of each task's loss, [num_tasks, num_parameters], and what `hessian_vector` needs."""
        parameters = self._parameters(flat)
        outputs, saved = self._forward(parameters, x)
        g, probabilities = loss_gradient(outputs, y)
        _, gradients = self._backward(parameters, saved, g, with_input=False)
        return self._joined([gp for _, gp in gradients]), GradientPass(parameters, saved, gradients, probabilities)

    def hessian_vector(self, gradient_pass: GradientPass, v: Tensor, with_input: bool) -> tuple[Tensor, Tensor | None]:
        """Return the derivative of <gradient, v> with respect to the parameters, H v, and to the input.

        H is symmetric, so this is the derivative of the gradient along v.

        Args:
            gradient_pass: from `gradient`.
            v: [num_tasks, num_parameters].
            with_input: whether the second is wanted; None else.
        """
        parameters, saved, gradients, probabilities = gradient_pass
        directions = self._parameters(v)
        moved = []
        dx: Tensor | None = None
        for layer, p, dp, saved_by_layer in zip(self.layers, parameters, directions, saved, strict=True):
            dx, moved_in_layer = layer.tangent(p, dp, saved_by_layer, dx)
            moved.append(moved_in_layer)
        assert dx is not None, "the last layer has parameters"
        dg: Tensor | None = loss_gradient_tangent(probabilities, dx)
        products = []
        for i in reversed(range(len(self.layers))):
            assert dg is not None
            layer, p, dp, (gy, gp) = self.layers[i], parameters[i], directions[i], gradients[i]
            dg, dgp = layer.tangent_backward(p, dp, saved[i], moved[i], gy, gp, dg, with_input or i > 0)
            products.append(dgp)
        return self._joined(products[::-1]), dg


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


class _GradientContext(Protocol):
    """What autograd carries from the forward pass of `LossGradient` to its backward pass."""

    network: TaskNetwork
    gradient_pass: GradientPass
    needs_input_grad: tuple[bool, ...]


class LossGradient(torch.autograd.Function):
    """Maps (flat parameters, prepared inputs, targets) to the gradient of each task's loss; differentiable once."""

    @staticmethod
    def forward(ctx: _GradientContext, network: TaskNetwork, flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        gradient, ctx.gradient_pass = network.gradient(flat.detach(), x.detach(), y)
        ctx.network = network
        return gradient

    @staticmethod
    @once_differentiable
    def backward(ctx: _GradientContext, v: Tensor) -> tuple[None, Tensor, Tensor | None, None]:
        flat, x = ctx.network.hessian_vector(ctx.gradient_pass, v, ctx.needs_input_grad[2])
        return None, flat, x, None


class _FeaturesContext(Protocol):
    """What autograd carries from the forward pass of `Features` to its backward pass."""

    network: TaskNetwork
    forward_pass: ForwardPass
    needs_input_grad: tuple[bool, ...]


class Features(torch.autograd.Function):
    """Maps (flat parameters, prepared inputs) to outputs; differentiable once."""

    @staticmethod
    def forward(ctx: _FeaturesContext, network: TaskNetwork, flat: Tensor, x: Tensor) -> Tensor:
        y, ctx.forward_pass = network.features(flat.detach(), x.detach())
        ctx.network = network
        # Some layers save their output: as an alias, or the output would hold its own graph alive.
        return y.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: _FeaturesContext, gy: Tensor) -> tuple[None, Tensor, Tensor | None]:
        flat, x = ctx.network.pull_back(ctx.forward_pass, gy, ctx.needs_input_grad[2])
        return None, flat, x
