"""Sizes and parameter names of a recipe's network are worked out here without torch; layers that cannot be are refused.

Networks are built by these functions, and recipes are checked by them, so that both say the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mamlcli.common.errors import MamlError

# Groups of a group norm; the release has none, 8 divides every width that is usual here.
NUM_NORM_GROUPS = 8

# Parameter names that a message lists; a deep network has hundreds.
_NAMES_SHOWN = 24


def feature_map_sides(
    image_sides: tuple[int, int], *, depth: int, width: int, stride: int, pool: int, norm: str
) -> tuple[int, int]:
    """Return height and width of the feature maps after conv blocks: 3x3 convolution with padding 1, norm, max-pool.

    Args:
        image_sides: height and width of the images, in pixels.
        depth, width, stride, pool, norm: as in `model` of a recipe.

    Raises:
        MamlError: a block leaves nothing of the image, or its norm would have single numbers to normalise.
    """
    image = f"{image_sides[0]}x{image_sides[1]} images with model.stride={stride}"
    sides = image_sides
    for block in range(1, depth + 1):
        side_a, side_b = ((side - 1) // stride + 1 for side in sides)
        num_groups = {"group": math.gcd(NUM_NORM_GROUPS, width), "layer": 1}.get(norm, 0)
        if width * side_a * side_b == num_groups:
            raise _norm_of_single_numbers(norm, f"{image} and model.pool={pool}", width=width, block=block)
        if pool > min(side_a, side_b):
            raise _nothing_left(image, block=block, depth=depth, pool=pool, side=min(side_a, side_b))
        sides = side_a // pool, side_b // pool
    return sides


def _norm_of_single_numbers(norm: str, image: str, *, width: int, block: int) -> MamlError:
    wider = f"model.width={2 * width}"
    return MamlError(
        "model.norm",
        expected=f"batch or none for {image} and model.width={width}",
        got=repr(norm),
        why=f"In block {block} a feature map is one pixel and a group one channel, and a single number less its mean "
        "is always 0",
        next_step=f"Set {wider}, model.norm=batch" + (f" or model.depth={block - 1}" if block > 1 else ""),
    )


def _nothing_left(image: str, *, block: int, depth: int, pool: int, side: int) -> MamlError:
    why = "Each block shrinks the image, and nothing would be left of it"
    if block == 1:
        return MamlError(
            "model.pool", expected=f"at most {side} for {image}", got=str(pool), why=why, next_step="Lower model.pool"
        )
    return MamlError(
        "model.depth",
        expected=f"at most {block - 1} block{'s' if block > 2 else ''} for {image} and model.pool={pool}",
        got=str(depth),
        why=why,
        next_step=f"Set model.depth={block - 1}, or a smaller model.pool",
    )


def head_sizes(
    num_features: int,
    num_outputs: int,
    *,
    num_extra: int,
    extra_width: int | None,
    width_key: str = "model.linear_width",
) -> list[int]:
    """Return the sizes of a head: d, o for one linear map, or d, w, ..., w, o with `num_extra` layers appended.

    Args:
        num_features: d.
        num_outputs: o.
        num_extra: appended linear layers.
        extra_width: w, by default d.
        width_key: the recipe key that w comes from, for errors.

    Raises:
        MamlError: w < min(d, o), where the stack could express less than the one map it replaces.
    """
    width = num_features if extra_width is None else extra_width
    if num_extra > 0 and width < min(num_features, num_outputs):
        raise MamlError(
            width_key,
            expected=f"an integer >= {min(num_features, num_outputs)} (the smaller of {num_features} features "
            f"and {num_outputs} outputs)",
            got=str(width),
            why="A narrower layer would take capacity away",
        )
    return [num_features, *[width] * num_extra, num_outputs]


@dataclass(frozen=True)
class ParameterNames:
    """The names of a network's parameters.

    Attributes:
        body: of what comes before the head; empty in a linear model.
        head: of the linear layers after the last non-linearity.
        output: of the last of these layers.
    """

    body: tuple[str, ...]
    head: tuple[str, ...]
    output: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """The names of all parameters, those of the body first."""
        return (*self.body, *self.head)


def parameter_names(
    kind: str, *, depth: int, norm: str = "none", linear_layers: int = 0, bias: bool = True, of_images: bool = False
) -> ParameterNames:
    """Return the names of the parameters of a recipe's network.

    Args:
        kind, depth, norm, linear_layers, bias: as in `model` of a recipe.
        of_images: whether inputs are images; an mlp then flattens them first.
    """
    parts = ("weight", "bias")
    body: list[str] = []
    if kind == "cnn":
        modules = ("conv", "norm") if norm != "none" else ("conv",)
        body = [f"body.{block}.{module}.{part}" for block in range(depth) for module in modules for part in parts]
    elif kind == "mlp":
        body = [f"body.{2 * layer + of_images}.{part}" for layer in range(depth) for part in parts]
    num_linear = linear_layers + (depth if kind == "linear" else 1)
    of_layer = parts if bias else parts[:1]
    head = [[f"head.{layer}.{part}" for part in of_layer] for layer in range(num_linear)]
    return ParameterNames(tuple(body), tuple(name for names in head for name in names), tuple(head[-1]))


def select_names(names: Sequence[str], patterns: Sequence[str], *, where: str) -> tuple[str, ...]:
    """Return the names that match any of the shell patterns, in the order of `names`.

    Raises:
        MamlError: a pattern that matches nothing; the message lists the names there are.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise MamlError(
                where,
                expected="a pattern that matches a parameter name",
                got=repr(pattern),
                why=f"The names are {', '.join(names[:_NAMES_SHOWN])}{' ...' if len(names) > _NAMES_SHOWN else ''}",
            )
    return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))
