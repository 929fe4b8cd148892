"""Layers compute many tasks at once, each with its own parameters; first and second derivatives are written out.

Every task has parameters of its own, so a layer maps [num_tasks, n, ...] to [num_tasks, n, ...]. Images are kept
with their channels last. A layer has four methods:

- `forward`: x -> y, and what the others need of it (`saved`);
- `backward`: the gradient with respect to y -> those with respect to x and to the parameters;
- `tangent`: the derivative of `forward` along directions of x and of the parameters;
- `tangent_backward`: the derivative of `backward` along the same directions.

The last two give a Hessian times a vector by going through the network once more each way (`TaskNetwork`), with
a few passes over the activations where the general second derivatives of a framework take dozens.

Source: Pearlmutter 1994, Fast exact multiplication by the Hessian, Neural Computation 6(1), for the principle; the
formulas are derived in the docstrings. No known deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from mamlcli.engine.explicit.gradients import Gradients, Product

_masked = torch.ops.aten.threshold_backward

Tensors = tuple[Tensor, ...]


class Saved(NamedTuple):
    """What a layer keeps of its forward pass for its other three methods.

    Attributes:
        tensors: as many as the layer needs.
        shape: of the input.
    """

    tensors: Tensors
    shape: torch.Size


class TaskLayer(Protocol):
    """Computes one layer and its derivatives, as the module's docstring says.

    `p` and `dp` are the parameters and their direction, in the order of `names`; a `g` before a name is a gradient
    with respect to it, a `d` its derivative along the direction.

    Attributes:
        names: full parameter names, () for a layer without parameters.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Return the full names of the parameters."""
        ...

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        """Return (y, saved)."""
        ...

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Gradients]:
        """Return (gradient of the input, or None unless `with_input`; gradients of the parameters)."""
        ...

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor | None, Tensors]:
        """Return (dy, the tensors that `tangent_backward` needs of it); None stands for a direction of zero."""
        ...

    def tangent_backward(
        self,
        p: Tensors,
        dp: Tensors,
        saved: Saved,
        moved: Tensors,
        gy: Tensor,
        gp: Gradients,
        dgy: Tensor,
        with_input: bool,
    ) -> tuple[Tensor | None, Gradients]:
        """Return the derivatives of what `backward` returned, `gp` being its gradients of the parameters."""
        ...


def sum_of(a: Tensor, b: Tensor | None) -> Tensor:
    """Return a + b, in place of a; a itself where b is None."""
    return a if b is None else a.add_(b)


@dataclass(frozen=True)
class TaskLinear:
    """Computes y = x W^T + b, [num_tasks, n, in] -> [num_tasks, n, out]."""

    names: tuple[str, ...]

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        return self._map(p, x), Saved((x,), x.shape)

    def _map(self, p: Tensors, x: Tensor) -> Tensor:
        y = torch.bmm(x, p[0].mT)
        return y if len(p) == 1 else y.add_(p[1].unsqueeze(1))

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Gradients]:
        gx = torch.bmm(gy, p[0]) if with_input else None
        return gx, self._gradients(p, gy, (gy, saved.tensors[0]))

    def _gradients(self, p: Tensors, gy: Tensor, *terms: tuple[Tensor, Tensor]) -> Gradients:
        return (Product(terms),) if len(p) == 1 else (Product(terms), gy.sum(1))

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor | None, Tensors]:
        dy = self._map(dp, saved.tensors[0])
        return (dy, ()) if dx is None else (torch.baddbmm(dy, dx, p[0].mT), (dx,))

    def tangent_backward(
        self,
        p: Tensors,
        dp: Tensors,
        saved: Saved,
        moved: Tensors,
        gy: Tensor,
        gp: Gradients,
        dgy: Tensor,
        with_input: bool,
    ) -> tuple[Tensor | None, Gradients]:
        dgx = torch.bmm(dgy, p[0]).baddbmm_(gy, dp[0]) if with_input else None
        return dgx, self._gradients(p, dgy, (dgy, saved.tensors[0]), *((gy, dx) for dx in moved))


@dataclass(frozen=True)
class TaskReLU:
    """Computes y = max(x, 0); the derivative at 0 is 0."""

    names: tuple[str, ...] = ()

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        y = x.relu_()  # the layer before keeps none of its output
        return y, Saved((y,), y.shape)

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Gradients]:
        return _masked(gy, saved.tensors[0], 0), ()

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor | None, Tensors]:
        return None if dx is None else _masked(dx, saved.tensors[0], 0), ()

    def tangent_backward(
        self,
        p: Tensors,
        dp: Tensors,
        saved: Saved,
        moved: Tensors,
        gy: Tensor,
        gp: Gradients,
        dgy: Tensor,
        with_input: bool,
    ) -> tuple[Tensor | None, Gradients]:
        return _masked(dgy, saved.tensors[0], 0), ()


@dataclass(frozen=True)
class TaskTanh:
    """Computes y = tanh(x); dy = (1 - y^2) dx, and that factor moves by -2 y dy."""

    names: tuple[str, ...] = ()

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        y = x.tanh_()
        return y, Saved((y,), y.shape)

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Gradients]:
        return torch.ops.aten.tanh_backward(gy, saved.tensors[0]), ()

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor | None, Tensors]:
        if dx is None:
            return None, ()
        dy = torch.ops.aten.tanh_backward(dx, saved.tensors[0])
        return dy, (dy,)

    def tangent_backward(
        self,
        p: Tensors,
        dp: Tensors,
        saved: Saved,
        moved: Tensors,
        gy: Tensor,
        gp: Gradients,
        dgy: Tensor,
        with_input: bool,
    ) -> tuple[Tensor | None, Gradients]:
        (y,) = saved.tensors
        dgx = torch.ops.aten.tanh_backward(dgy, y)
        return dgx - 2 * gy * y * moved[0] if moved else dgx, ()


class _LinearMap:
    """A layer without parameters that is linear in x where it stands: its derivative is itself."""

    names: tuple[str, ...] = ()

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        raise NotImplementedError

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Gradients]:
        raise NotImplementedError

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor | None, Tensors]:
        return None if dx is None else self.forward(p, dx)[0], ()

    def tangent_backward(
        self,
        p: Tensors,
        dp: Tensors,
        saved: Saved,
        moved: Tensors,
        gy: Tensor,
        gp: Gradients,
        dgy: Tensor,
        with_input: bool,
    ) -> tuple[Tensor | None, Gradients]:
        return self.backward(p, saved, dgy, with_input)


def _by_task(images: Tensor, shape: torch.Size) -> Tensor:
    """Return [num_tasks * n, ...] as [num_tasks, n, ...], with the numbers that `shape` starts with."""
    return images.contiguous().view(*shape[:2], *images.shape[1:])


class TaskMaxPool(_LinearMap):
    """Takes the largest of each size x size square; saves which of the pixels it was."""

    def __init__(self, size: int) -> None:
        self.size = size

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        images = x.flatten(0, 1).permute(0, 3, 1, 2)
        y, places = functional.max_pool2d(images, self.size, return_indices=True)
        return _by_task(y.permute(0, 2, 3, 1), x.shape), Saved((places,), x.shape)

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Gradients]:
        (places,), shape = saved
        gradient = gy.new_zeros(places.shape[0], places.shape[1], shape[2] * shape[3])
        gradient.scatter_(2, places.flatten(2), gy.flatten(0, 1).permute(0, 3, 1, 2).flatten(2))
        return gradient.mT.reshape(shape), ()

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor | None, Tensors]:
        if dx is None:
            return None, ()
        (places,), shape = saved
        pixels = dx.flatten(0, 1).flatten(1, 2).mT
        dy = pixels.gather(2, places.flatten(2)).view(places.shape).permute(0, 2, 3, 1)
        return _by_task(dy, shape), ()


class TaskGlobalMean(_LinearMap):
    """Takes the mean over pixels, [num_tasks, n, height, width, channels] -> [num_tasks, n, channels]."""

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        return x.mean((2, 3)), Saved((), x.shape)

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Gradients]:
        shape = saved.shape
        return (gy / (shape[2] * shape[3]))[:, :, None, None].expand(shape), ()


class TaskFlatten(_LinearMap):
    """Makes a vector of each image, [num_tasks, n, channels * height * width]."""

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        return x.permute(0, 1, 4, 2, 3).flatten(2), Saved((), x.shape)

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Gradients]:
        num_tasks, n, height, width, channels = saved.shape
        return gy.view(num_tasks, n, channels, height, width).permute(0, 1, 3, 4, 2).contiguous(), ()
