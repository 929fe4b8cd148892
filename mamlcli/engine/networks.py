"""Make the networks of recipes, and call them with given parameters through `torch.func.functional_call`.

A network is a body and a head. The head is every linear layer after the last non-linearity (what ANIL adapts);
the body is what comes before, and is empty in a linear model. Parameter names are contract: they stand in
checkpoints and in the patterns of `inner.adapt`: `body.<block>.conv.weight`, `body.<block>.norm.bias`,
`head.<layer>.weight`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from mamlcli.common.architecture import NUM_NORM_GROUPS, ParameterNames, feature_map_sides, head_sizes

Params = dict[str, Tensor]


# Keeps a channel of constant activations from dividing by zero; torch's default for its norms.
NORM_EPSILON = 1e-5


# Layers of torch draw weights from its global generator as they are made. These are never used, as every network gets
# its own (`initial`), and the generator is the user's.
_DRAWN_APART = torch.random.fork_rng(devices=[])


class BatchStatisticsNorm(nn.Module):
    """Normalises each channel by the statistics of the batch at hand, and keeps none of them.

    y = (x - mean) / sqrt(var + epsilon) * weight + bias, over images and pixels, biased variance. At test time
    this is transductive: the query images of a task are normalised together. It is what the original MAML and the
    paper's release do.

    Written out, because the second derivative of torch's fused batch norm is wrong under vmap (seen in torch
    2.15: the test that compares execution paths fails with it).
    """

    def __init__(self, num_channels: int, epsilon: float = NORM_EPSILON) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_channels))
        self.bias = nn.Parameter(torch.empty(num_channels))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x, x)

    def normalised(self, x: Tensor, batch: Tensor) -> Tensor:
        """Return inputs [n, num_channels, ...] normalised by the statistics of a batch [m, num_channels, ...]."""
        variance, mean = torch.var_mean(batch, dim=(0, *range(2, x.ndim)), correction=0)
        scale = self.weight * torch.rsqrt(variance + self.epsilon)
        shift = self.bias - mean * scale
        of_channel = (-1, *[1] * (x.ndim - 2))
        return x * scale.view(of_channel) + shift.view(of_channel)


def norm_layer(name: str, num_channels: int) -> nn.Module:
    """Return the norm of a recipe's `model.norm`: "batch", "group", "layer", or "none", which is the identity."""
    if name == "batch":
        return BatchStatisticsNorm(num_channels)
    if name == "group":
        return nn.GroupNorm(math.gcd(NUM_NORM_GROUPS, num_channels), num_channels)
    if name == "layer":
        # Over channels and pixels of one image; one scale and shift per channel keeps its size independent
        # of the image's.
        return nn.GroupNorm(1, num_channels)
    return nn.Identity()


class ConvBlock(nn.Module):
    """Computes a 3x3 convolution with padding 1, a norm, ReLU, and a max-pool where `pool` is above 1."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, pool: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm = norm_layer(norm, out_channels)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.conv(x)))
        return functional.max_pool2d(x, self.pool) if self.pool > 1 else x


class GlobalMean(nn.Module):
    """Takes the mean over height and width: [n, channels, height, width] -> [n, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(-2, -1))


class Network(nn.Module):
    """Computes the outputs of a body and a head of linear layers.

    Args:
        body: [n, *input_shape] -> [n, num_features]; empty for a linear model.
        head: linear layers only, [n, num_features] -> [n, num_outputs].
        input_shape: the shape of one input.
    """

    def __init__(self, body: nn.Sequential, head: nn.Sequential, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.input_shape = input_shape

    def forward(self, x: Tensor, part: str = "all") -> Tensor:
        """Return the outputs (`part="all"`), the features (`"body"`), or the outputs of features (`"head"`)."""
        if part == "body":
            return self.body(x)  # type: ignore[no-any-return]
        if part == "head":
            return self.head(x)  # type: ignore[no-any-return]
        return self.head(self.body(x))  # type: ignore[no-any-return]

    def with_params(self, params: Mapping[str, Tensor], x: Tensor, part: str = "all") -> Tensor:
        """Return what `forward` does, with other parameters; see `apply_network`."""
        out: Tensor = functional_call(self, dict(params), (x,), {"part": part})
        return out

    @property
    def is_split(self) -> bool:
        """Whether the outputs are those of the head on the features of the body, so that each can be computed alone."""
        return True

    @property
    def has_features(self) -> bool:
        """Whether the inputs of the output layer are known."""
        return True

    @property
    def unmapped(self) -> str | None:
        """Why tasks are computed one by one, and not together by vmap; None where they can be."""
        return None

    @property
    def holder(self) -> nn.Module:
        """The module in which parameters have the names that `parameter_names` gives them."""
        return self

    def parameter_names(self) -> tuple[str, ...]:
        """Return the names of all parameters, those of the body first."""
        return tuple(name for name, _ in self.named_parameters())

    def head_parameter_names(self) -> tuple[str, ...]:
        """Return the names of the head's parameters, which ANIL adapts."""
        return tuple(name for name in self.parameter_names() if name.startswith("head."))

    def names_by_part(self) -> ParameterNames:
        """Return the names of all parameters, by the part of the network that they are in."""
        of_head, last = self.head_parameter_names(), f"head.{len(self.head) - 1}."
        return ParameterNames(
            body=tuple(name for name in self.parameter_names() if name not in of_head),
            head=of_head,
            output=tuple(name for name in of_head if name.startswith(last)),
        )

    @property
    def num_outputs(self) -> int:
        """The outputs of the last layer: the ways of a classification, 1 for regression."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear), "a head is linear layers only"
        return last.out_features


def apply_network(network: Network, params: Mapping[str, Tensor], x: Tensor, part: str = "all") -> Tensor:
    """Run a network, or its body or head, with the given parameters.

    Args:
        network: the architecture; its own parameters are not used where `params` names them.
        params: tensors by name; for `part="head"` those of the head suffice, likewise for the body.
        x: [n, *input_shape] float, or [n, num_features] for the head.
        part: "all", "body" or "head".

    Returns:
        [n, num_outputs], or [n, num_features] for the body.
    """
    return network.with_params(params, x, part)


def linear_head(
    num_features: int,
    num_outputs: int,
    *,
    num_extra: int,
    extra_width: int | None,
    bias: bool,
    width_key: str = "model.linear_width",
) -> nn.Sequential:
    """Return the head: one linear map d -> o, or d -> w -> ... -> w -> o with `num_extra` layers appended.

    Args:
        num_features: d.
        num_outputs: o.
        num_extra: appended linear layers, n; the head has n + 1 layers.
        extra_width: w, by default d.
        bias: whether each layer has a bias.
        width_key: the recipe key that w comes from, for errors.

    Raises:
        MamlError: w < min(d, o), where the stack could express less than the one map it replaces.
    """
    sizes = head_sizes(num_features, num_outputs, num_extra=num_extra, extra_width=extra_width, width_key=width_key)
    return nn.Sequential(*(nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(sizes)))


@_DRAWN_APART
def cnn(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    depth: int,
    width: int,
    stride: int = 1,
    pool: int = 1,
    norm: str = "batch",
    head: str = "mean",
    linear_layers: int = 0,
    linear_width: int | None = None,
) -> Network:
    """Return `depth` conv blocks of `width` channels, then global mean or flatten, then the linear head.

    Args:
        input_shape: (channels, height, width).
        num_outputs: ways.
        depth: conv blocks; the head is not counted.
        width: channels of every block.
        stride: stride of every convolution, 1 or 2.
        pool: factor of the max-pool after every block; 1 for none.
        norm: "batch" (batch statistics), "none", "group" or "layer".
        head: "mean" (global mean) or "flatten".
        linear_layers: linear layers appended to the head.
        linear_width: their width, by default the number of features.

    Raises:
        MamlError: the blocks shrink the image to nothing, or to single numbers that a norm cannot normalise.

    Source: Arnold et al. 2021, the released networks: CIFAR-FS `stride=1, pool=1, head="mean"`; mini-ImageNet
        `pool=4 // depth, head="flatten"`; Omniglot `stride=2, head="mean"`. Finn et al. 2017 (1703.03400) for
        `pool=2, head="flatten"` and 4 blocks.
    """
    channels, height, width_of_image = input_shape
    sides = feature_map_sides((height, width_of_image), depth=depth, width=width, stride=stride, pool=pool, norm=norm)
    blocks: list[nn.Module] = [
        ConvBlock(width if index else channels, width, stride=stride, pool=pool, norm=norm) for index in range(depth)
    ]
    blocks.append(GlobalMean() if head == "mean" else nn.Flatten())
    features = width if head == "mean" else width * math.prod(sides)
    return Network(
        nn.Sequential(*blocks),
        linear_head(features, num_outputs, num_extra=linear_layers, extra_width=linear_width, bias=True),
        input_shape,
    )


@_DRAWN_APART
def mlp(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    depth: int,
    width: int,
    activation: str = "relu",
    linear_layers: int = 0,
    linear_width: int | None = None,
) -> Network:
    """Return `depth` hidden layers of `width` units and their non-linearity ("relu" or "tanh"), then the head."""
    sizes = [math.prod(input_shape), *[width] * depth]
    layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.Tanh() if activation == "tanh" else nn.ReLU()]
    return Network(
        nn.Sequential(*layers),
        linear_head(width, num_outputs, num_extra=linear_layers, extra_width=linear_width, bias=True),
        input_shape,
    )


@_DRAWN_APART
def linear(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    depth: int = 1,
    width: int | None = None,
    bias: bool = True,
    linear_layers: int = 0,
    linear_width: int | None = None,
) -> Network:
    """Return a linear model of `depth` linear layers: the same function class at every depth.

    Args:
        input_shape: the shape of one input; images are flattened.
        num_outputs: outputs.
        depth: linear layers, at least 1.
        width: width of the layers between input and output, by default the number of inputs.
        bias: whether each layer has a bias.
        linear_layers: further layers, appended as for any other model; they count like `depth`.
        linear_width: their width.
    """
    size = math.prod(input_shape)
    head = linear_head(size, num_outputs, num_extra=depth - 1, extra_width=width, bias=bias, width_key="model.width")
    if linear_layers:
        last = head[-1]
        assert isinstance(last, nn.Linear)
        appended = linear_head(
            last.in_features, num_outputs, num_extra=linear_layers, extra_width=linear_width, bias=bias
        )
        head = nn.Sequential(*list(head)[:-1], *appended)
    return Network(nn.Sequential(*([nn.Flatten()] if len(input_shape) > 1 else [])), head, input_shape)
