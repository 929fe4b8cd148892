"""Put named parameters into one flat vector for each task, and find them there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mamlcli.engine.networks import Params


@dataclass(frozen=True)
class Layout:
    """Says where each parameter lies in a flat vector, and in which order its entries do.

    Convolution weights [out, in, 3, 3] lie as [out, 3, 3, in], as `TaskConv` takes them.

    Attributes:
        names: parameter names, in the order of the vector.
        shapes: as the network has them.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """Return the number of entries of each parameter."""
        return [math.prod(shape) for shape in self.shapes]

    def flat(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the vector of the named tensors, [..., num_parameters]; they share their leading dimensions."""
        parts = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            value = tensors[name]
            moved = value.movedim(-3, -1) if len(shape) == 4 else value
            parts.append(moved.reshape(*value.shape[: value.ndim - len(shape)], math.prod(shape)))
        return torch.cat(parts, dim=-1)

    def tensors(self, flat: Tensor) -> Params:
        """Return the named tensors of a vector, [..., *shape]."""
        named = {}
        for name, shape, part in zip(
            self.names, self.shapes, torch.split_with_sizes(flat, self.sizes, dim=-1), strict=True
        ):
            value = part.reshape(*part.shape[:-1], *_inner_shape(shape))
            named[name] = value.movedim(-1, -3) if len(shape) == 4 else value
        return named

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return the tensors, in the order of the names, as a `TaskLayer` takes them: views of the vector."""
        if not self.names:
            return []
        parts = torch.split_with_sizes(flat, self.sizes, dim=-1)
        return [
            part.reshape(*part.shape[:-1], *_inner_shape(shape)) for shape, part in zip(self.shapes, parts, strict=True)
        ]

    def values(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the tensors, in the order of the names, as a `TaskLayer` takes them: views of those that are given."""
        return [
            tensors[name].movedim(-3, -1) if len(shape) == 4 else tensors[name]
            for name, shape in zip(self.names, self.shapes, strict=True)
        ]


def _inner_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else shape
