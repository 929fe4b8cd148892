"""Layers whose activations carry a dimension of tasks, with first and second derivatives written out.

Every task has parameters of its own, so a layer maps [num_tasks, n, ...] to [num_tasks, n, ...]. Images are kept
with their channels last. A layer has four methods:

- `forward`: x -> y, and what the others need of it (`saved`);
- `backward`: the gradient with respect to y -> those with respect to x and to the parameters;
- `tangent`: the derivative of `forward` along directions of x and of the parameters;
- `tangent_backward`: the derivative of `backward` along the same directions.

The last two give a Hessian times a vector by going through the network once more each way (`task_network`), with
a few passes over the activations where the general second derivatives of a framework take dozens.

Source: Pearlmutter 1994, Fast exact multiplication by the Hessian, Neural Computation 6(1), for the principle; the
formulas are derived in the docstrings. No known deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from mamlcli.models import NORM_EPSILON

_backward = torch.ops.aten.convolution_backward
_masked = torch.ops.aten.threshold_backward

Tensors = tuple[Tensor, ...]


class TaskLayer(Protocol):
    """One layer; see the module's docstring. `p` and `dp` are its parameters and their direction, in `names`' order.

    Attributes:
        names: full parameter names, () for a layer without parameters.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        """Return (y, saved)."""
        ...

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        """Return (gradient of the input, or None unless `with_input`; gradients of the parameters)."""
        ...

    def tangent(self, p: Tensors, dp: Tensors, saved: Any, dx: Tensor | None) -> tuple[Tensor | None, Any]:
        """Return (dy, what `tangent_backward` needs of it); None stands for a direction of zero."""
        ...

    def tangent_backward(
        self,
        p: Tensors,
        dp: Tensors,
        saved: Any,
        moved: Any,
        gy: Tensor,
        gp: Tensors,
        dgy: Tensor,
        with_input: bool,
    ) -> tuple[Tensor | None, Tensors]:
        """Return the derivatives of what `backward` returned, `gp` being its gradients of the parameters."""
        ...


def _plus(a: Tensor, b: Tensor | None) -> Tensor:
    return a if b is None else a.add_(b)


@dataclass(frozen=True)
class TaskLinear:
    """y = x W^T + b, [num_tasks, n, in] -> [num_tasks, n, out]."""

    names: tuple[str, ...]

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        if len(p) == 1:
            return torch.bmm(x, p[0].mT), x
        return torch.bmm(x, p[0].mT).add_(p[1].unsqueeze(1)), x

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        gx = torch.bmm(gy, p[0]) if with_input else None
        return gx, (torch.bmm(gy.mT, saved), gy.sum(1))[: len(p)]

    def tangent(self, p: Tensors, dp: Tensors, saved: Any, dx: Tensor | None) -> tuple[Tensor | None, Any]:
        dy, _ = self.forward(dp, saved)
        return dy if dx is None else torch.baddbmm(dy, dx, p[0].mT), dx

    def tangent_backward(
        self, p: Tensors, dp: Tensors, saved: Any, moved: Any, gy: Tensor, gp: Tensors, dgy: Tensor, with_input: bool
    ) -> tuple[Tensor | None, Tensors]:
        dgx, dgp = self.backward(p, saved, dgy, with_input)
        if dgx is not None:
            dgx.baddbmm_(gy, dp[0])
        if moved is not None:
            dgp = (dgp[0].baddbmm_(gy.mT, moved), *dgp[1:])
        return dgx, dgp


@dataclass(frozen=True)
class TaskConv:
    """3x3 convolution with padding 1, [num_tasks, n, height, width, in] -> [num_tasks, n, ..., out].

    The weight is [num_tasks, out, 3, 3, in]. `is_unfolded` gathers the patches into a matrix and multiplies; else
    each task's convolution is called by itself, on views with channels last. `has_bias` is False before a batch norm,
    which takes any constant out again: the bias then has no effect, and a gradient of zero.
    """

    names: tuple[str, ...]
    stride: int
    is_unfolded: bool
    has_bias: bool

    def unfold(self, x: Tensor) -> Tensor:
        """Return the patches, [num_tasks, n * height_out * width_out, 9 * in]."""
        num_tasks, n, height, width, channels = x.shape
        padded = functional.pad(x, (0, 0, 1, 1, 1, 1))
        a, b, row, column, c = padded.stride()
        high, wide = self._output_size(height, width)
        patches = padded.as_strided(
            (num_tasks, n, high, wide, 3, 3, channels),
            (a, b, row * self.stride, column * self.stride, row, column, c),
        )
        return patches.reshape(num_tasks, n * high * wide, 9 * channels)

    def _fold(self, patches: Tensor, shape: torch.Size) -> Tensor:
        """Return the sum of all patches at their places: the transpose of `unfold`."""
        num_tasks, n, height, width, channels = shape
        high, wide = self._output_size(height, width)
        parts = patches.view(num_tasks, n, high, wide, 3, 3, channels)
        x = patches.new_empty(shape)
        # Entries 1 to `stride` of the patches reach every pixel once: these are copied, and the rest added.
        order = sorted(range(3), key=lambda entry: not 1 <= entry <= self.stride)
        places = {entry: (self._places(entry, height, high), self._places(entry, width, wide)) for entry in order}
        for row in order:
            (to_row, from_row) = places[row][0]
            for column in order:
                (to_column, from_column) = places[column][1]
                target, part = x[:, :, to_row, to_column], parts[:, :, from_row, from_column, row, column]
                if 1 <= row <= self.stride and 1 <= column <= self.stride:
                    target.copy_(part)
                else:
                    target.add_(part)
        return x

    def _places(self, entry: int, size: int, size_out: int) -> tuple[slice, slice]:
        """Return (the pixels that an entry of the patches lies on, the patches in which it lies on any)."""
        first = 1 if entry == 0 else 0
        start = first * self.stride + entry - 1
        last = min(size_out - 1, (size - entry) // self.stride)
        return slice(start, last * self.stride + entry, self.stride), slice(first, last + 1)

    def _output_size(self, height: int, width: int) -> tuple[int, int]:
        return (height - 1) // self.stride + 1, (width - 1) // self.stride + 1

    def _multiply(self, x: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        """Return the convolution of x, or of its patches, with a weight; added to `onto` in place."""
        if self.is_unfolded:
            matrix = weight.flatten(2).mT
            return torch.bmm(x, matrix) if onto is None else onto.baddbmm_(x, matrix)
        found = [
            functional.conv2d(a.permute(0, 3, 1, 2), w.permute(0, 3, 1, 2), None, self.stride, 1).permute(0, 2, 3, 1)
            for a, w in zip(x.unbind(), weight.unbind(), strict=True)
        ]
        y = found[0].unsqueeze(0) if len(found) == 1 else torch.stack(found)
        return _plus(y, onto)

    def _weight_gradient(self, gy: Tensor, x: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        if self.is_unfolded:
            if onto is None:
                return torch.bmm(gy.flatten(1, -2).mT, x).view(weight.shape)
            return onto.flatten(2).baddbmm_(gy.flatten(1, -2).mT, x).view(weight.shape)
        return _plus(self._backward(gy, x, weight, [False, True, False]), onto)

    def _input_gradient(self, gy: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return self._backward(gy, x, weight, [True, False, False])

    def _backward(self, gy: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> Tensor:
        found = []
        for g, a, w in zip(gy.unbind(), x.unbind(), weight.unbind(), strict=True):
            parts = _backward(
                g.permute(0, 3, 1, 2), a.permute(0, 3, 1, 2), w.permute(0, 3, 1, 2),
                None, [self.stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, mask,
            )  # fmt: skip
            found.append(parts[0 if mask[0] else 1].permute(0, 2, 3, 1))
        return found[0].contiguous().unsqueeze(0) if len(found) == 1 else torch.stack(found)

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        """`x` may be the patches already, [num_tasks, n, height_out, width_out, 9 * in] (see `prepared`)."""
        num_tasks, n, height, width, channels = x.shape
        high, wide = self._output_size(height, width)
        if not self.is_unfolded:
            kept = x
        elif channels == 9 * p[0].shape[-1]:
            high, wide, kept = height, width, x.flatten(1, 3)
        else:
            kept = self.unfold(x)
        y = self._multiply(kept, p[0]).view(num_tasks, n, high, wide, p[0].shape[1])
        return y.add_(p[1][:, None, None, None]) if self.has_bias else y, (kept, x)

    def prepared(self, x: Tensor) -> Tensor:
        """Return what `forward` takes instead of x, so that a fixed input is gathered into patches once."""
        if not self.is_unfolded:
            return x
        num_tasks, n, height, width, _ = x.shape
        return self.unfold(x).view(num_tasks, n, *self._output_size(height, width), -1)

    def _bias_gradient(self, gy: Tensor, p: Tensors) -> Tensor:
        return gy.flatten(1, -2).sum(1) if self.has_bias else torch.zeros_like(p[1])

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        kept, x = saved
        gradients = (self._weight_gradient(gy, kept, p[0]), self._bias_gradient(gy, p))
        if not with_input:
            return None, gradients
        if self.is_unfolded:
            return self._fold(torch.bmm(gy.flatten(1, -2), p[0].flatten(2)), x.shape), gradients
        return self._input_gradient(gy, p[0], x), gradients

    def tangent(self, p: Tensors, dp: Tensors, saved: Any, dx: Tensor | None) -> tuple[Tensor | None, Any]:
        kept, x = saved
        dy = self._multiply(kept, dp[0])
        moved = None
        if dx is not None:
            moved = self.unfold(dx) if self.is_unfolded else dx
            dy = self._multiply(moved, p[0], onto=dy)
        num_tasks, n, height, width, channels = x.shape
        size = (height, width) if channels == 9 * p[0].shape[-1] else self._output_size(height, width)
        dy = dy.view(num_tasks, n, *size, p[0].shape[1])
        return dy.add_(dp[1][:, None, None, None]) if self.has_bias else dy, moved

    def tangent_backward(
        self, p: Tensors, dp: Tensors, saved: Any, moved: Any, gy: Tensor, gp: Tensors, dgy: Tensor, with_input: bool
    ) -> tuple[Tensor | None, Tensors]:
        kept, x = saved
        weight = self._weight_gradient(dgy, kept, p[0])
        if moved is not None:
            weight = self._weight_gradient(gy, moved, p[0], onto=weight)
        gradients = (weight, self._bias_gradient(dgy, p))
        if not with_input:
            return None, gradients
        if self.is_unfolded:
            patches = torch.bmm(dgy.flatten(1, -2), p[0].flatten(2))
            return self._fold(patches.baddbmm_(gy.flatten(1, -2), dp[0].flatten(2)), x.shape), gradients
        return self._input_gradient(dgy, p[0], x).add_(self._input_gradient(gy, dp[0], x)), gradients


@dataclass(frozen=True)
class TaskBatchNorm:
    """y = x_hat * weight + bias with x_hat = (x - mean) / sqrt(var + epsilon), over images and pixels of one task.

    With r = 1 / sqrt(var + epsilon) and Q(v) = v - mean(v) - x_hat mean(x_hat v), the derivative of x_hat along v
    is r Q(v), and so is its transpose. Moving x by dx moves x_hat by u = r Q(dx), and r by -r^2 mean(x_hat dx);
    hence r Q(g), the gradient of x for a gradient g of x_hat, moves by
    r Q(dg) - r^2 mean(x_hat dx) Q(g) - r (mean(x_hat g) u + x_hat mean(u g)).
    As g = weight * gy, and the weight is one number for each channel, all of it is a sum of gy, dgy, x_hat and u with
    one factor per channel each, and the means in those are sums that the gradients of the parameters need anyway.
    """

    names: tuple[str, ...]

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        weight, bias = p[0].unsqueeze(1), p[1].unsqueeze(1)
        v = x.flatten(1, -2)
        x_hat = v - v.sum(1, keepdim=True).div_(v.shape[1])
        r = (x_hat * x_hat).sum(1, keepdim=True).div_(v.shape[1]).add_(NORM_EPSILON).rsqrt_()
        x_hat.mul_(r)
        return torch.addcmul(bias, x_hat, weight).view(x.shape), (x_hat, r)

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        x_hat, r = saved
        g = gy.flatten(1, -2)
        along, total = (g * x_hat).sum(1), g.sum(1)
        if not with_input:
            return None, (along, total)
        factor = r * p[0].unsqueeze(1)
        share = factor / -g.shape[1]
        gx = torch.addcmul(share * total.unsqueeze(1), x_hat, share * along.unsqueeze(1)).addcmul_(g, factor)
        return gx.view(gy.shape), (along, total)

    def tangent(self, p: Tensors, dp: Tensors, saved: Any, dx: Tensor | None) -> tuple[Tensor | None, Any]:
        x_hat, r = saved
        if dx is None:
            raise AssertionError("a convolution comes before a batch norm, and its weight has a direction")
        v = dx.flatten(1, -2)
        along = (v * x_hat).sum(1, keepdim=True).div_(v.shape[1])
        mean = v.sum(1, keepdim=True).div_(v.shape[1])
        u = torch.addcmul(-r * mean, x_hat, -r * along).addcmul_(v, r)
        dy = torch.addcmul(dp[1].unsqueeze(1), x_hat, dp[0].unsqueeze(1)).addcmul_(u, p[0].unsqueeze(1))
        return dy.view(dx.shape), (u, along)

    def tangent_backward(
        self, p: Tensors, dp: Tensors, saved: Any, moved: Any, gy: Tensor, gp: Tensors, dgy: Tensor, with_input: bool
    ) -> tuple[Tensor | None, Tensors]:
        x_hat, r = saved
        u, along = moved
        g, dg = gy.flatten(1, -2), dgy.flatten(1, -2)
        dg_along, dg_total = (dg * x_hat).sum(1, keepdim=True), dg.sum(1, keepdim=True)
        g_moved = (g * u).sum(1, keepdim=True)
        gradients = ((dg_along + g_moved).squeeze(1), dg_total.squeeze(1))
        if not with_input:
            return None, gradients
        weight, dweight = p[0].unsqueeze(1), dp[0].unsqueeze(1)
        g_along, g_total = (value.unsqueeze(1) for value in gp)
        # Q(dweight gy + weight dgy - r along weight gy), then the terms in which x_hat itself moves.
        turn = dweight - r * along * weight
        on_x_hat = turn * g_along + weight * (dg_along + g_moved)
        share = r / -g.shape[1]
        dgx = torch.addcmul(share * (turn * g_total + weight * dg_total), x_hat, share * on_x_hat)
        dgx.addcmul_(g, r * turn).addcmul_(dg, r * weight).addcmul_(u, share * weight * g_along)
        return dgx.view(gy.shape), gradients


@dataclass(frozen=True)
class TaskGroupNorm:
    """As `TaskBatchNorm`, over the pixels and the channels of one of `num_groups` groups, of one image."""

    names: tuple[str, ...]
    num_groups: int

    def _view(self, v: Tensor) -> Tensor:
        """Return v with the dimensions that are averaged at 1 and 3."""
        return v.reshape(v.shape[0] * v.shape[1], v.shape[2] * v.shape[3], self.num_groups, -1)

    def _mean(self, v: Tensor) -> Tensor:
        return v.sum((1, 3), keepdim=True).div_(v.shape[1] * v.shape[3])

    def _q(self, v: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return (Q(v), mean(x_hat v))."""
        along = self._mean(x_hat * v)
        return (v - self._mean(v)).addcmul_(x_hat, along, value=-1), along

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        v = self._view(x)
        x_hat = v - self._mean(v)
        r = self._mean(x_hat * x_hat).add_(NORM_EPSILON).rsqrt_()
        x_hat.mul_(r)
        y = torch.addcmul(p[1].unsqueeze(1), x_hat.view(x.shape[0], -1, x.shape[-1]), p[0].unsqueeze(1))
        return y.view(x.shape), (x_hat, r)

    def _parameter_gradients(self, gy: Tensor, x_hat: Tensor) -> Tensors:
        flat = gy.flatten(1, -2)
        return (flat * x_hat.view(flat.shape)).sum(1), flat.sum(1)

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        x_hat, r = saved
        gradients = self._parameter_gradients(gy, x_hat)
        if not with_input:
            return None, gradients
        g = self._view(gy * p[0][:, None, None, None])
        return self._q(g, x_hat)[0].mul_(r).view(gy.shape), gradients

    def tangent(self, p: Tensors, dp: Tensors, saved: Any, dx: Tensor | None) -> tuple[Tensor | None, Any]:
        x_hat, r = saved
        if dx is None:
            raise AssertionError("a convolution comes before a group norm, and its weight has a direction")
        u, along = self._q(self._view(dx), x_hat)
        u.mul_(r)
        flat = (dx.shape[0], -1, dx.shape[-1])
        dy = torch.addcmul(dp[1].unsqueeze(1), x_hat.view(flat), dp[0].unsqueeze(1))
        return dy.addcmul_(u.view(flat), p[0].unsqueeze(1)).view(dx.shape), (u, along)

    def tangent_backward(
        self, p: Tensors, dp: Tensors, saved: Any, moved: Any, gy: Tensor, gp: Tensors, dgy: Tensor, with_input: bool
    ) -> tuple[Tensor | None, Tensors]:
        x_hat, r = saved
        weight, bias = self._parameter_gradients(dgy, x_hat)
        u, along = moved
        flat = gy.flatten(1, -2)
        weight += (flat * u.view(flat.shape)).sum(1)
        if not with_input:
            return None, (weight, bias)
        scale, dscale = (value[0][:, None, None, None] for value in (p, dp))
        g = self._view(gy * scale)
        # r Q(dg) - r^2 along Q(g) = r Q(dg - r along g).
        dg = self._view((dgy * scale).addcmul_(gy, dscale)).addcmul_(g, r * along, value=-1)
        dgx, _ = self._q(dg, x_hat)
        dgx.addcmul_(u, self._mean(x_hat * g), value=-1).addcmul_(x_hat, self._mean(u * g), value=-1).mul_(r)
        return dgx.view(gy.shape), (weight, bias)


@dataclass(frozen=True)
class TaskReLU:
    """y = max(x, 0); the derivative at 0 is 0."""

    names: tuple[str, ...] = ()

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        y = x.relu_()  # the layer before keeps none of its output
        return y, y

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        return _masked(gy, saved, 0), ()

    def tangent(self, p: Tensors, dp: Tensors, saved: Any, dx: Tensor | None) -> tuple[Tensor | None, Any]:
        return None if dx is None else _masked(dx, saved, 0), None

    def tangent_backward(
        self, p: Tensors, dp: Tensors, saved: Any, moved: Any, gy: Tensor, gp: Tensors, dgy: Tensor, with_input: bool
    ) -> tuple[Tensor | None, Tensors]:
        return _masked(dgy, saved, 0), ()


@dataclass(frozen=True)
class TaskTanh:
    """y = tanh(x); dy = (1 - y^2) dx, and that factor moves by -2 y dy."""

    names: tuple[str, ...] = ()

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        y = x.tanh_()
        return y, y

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        return torch.ops.aten.tanh_backward(gy, saved), ()

    def tangent(self, p: Tensors, dp: Tensors, saved: Any, dx: Tensor | None) -> tuple[Tensor | None, Any]:
        dy = None if dx is None else torch.ops.aten.tanh_backward(dx, saved)
        return dy, dy

    def tangent_backward(
        self, p: Tensors, dp: Tensors, saved: Any, moved: Any, gy: Tensor, gp: Tensors, dgy: Tensor, with_input: bool
    ) -> tuple[Tensor | None, Tensors]:
        dgx = torch.ops.aten.tanh_backward(dgy, saved)
        return dgx if moved is None else dgx - 2 * gy * saved * moved, ()


class _LinearMap:
    """A layer without parameters that is linear in x where it stands: its derivative is itself."""

    names: tuple[str, ...] = ()

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        raise NotImplementedError

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        raise NotImplementedError

    def tangent(self, p: Tensors, dp: Tensors, saved: Any, dx: Tensor | None) -> tuple[Tensor | None, Any]:
        return None if dx is None else self.forward(p, dx)[0], None

    def tangent_backward(
        self, p: Tensors, dp: Tensors, saved: Any, moved: Any, gy: Tensor, gp: Tensors, dgy: Tensor, with_input: bool
    ) -> tuple[Tensor | None, Tensors]:
        return self.backward(p, saved, dgy, with_input)


def _by_task(images: Tensor, shape: torch.Size) -> Tensor:
    """Return [num_tasks * n, ...] as [num_tasks, n, ...], with the numbers that `shape` starts with."""
    return images.contiguous().view(*shape[:2], *images.shape[1:])


class TaskMaxPool(_LinearMap):
    """The largest of each size x size square; `saved` holds which it was."""

    def __init__(self, size: int) -> None:
        self.size = size

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        images = x.flatten(0, 1).permute(0, 3, 1, 2)
        y, places = functional.max_pool2d(images, self.size, return_indices=True)
        return _by_task(y.permute(0, 2, 3, 1), x.shape), (places, x.shape)

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        places, shape = saved
        gradient = gy.new_zeros(places.shape[0], places.shape[1], shape[2] * shape[3])
        gradient.scatter_(2, places.flatten(2), gy.flatten(0, 1).permute(0, 3, 1, 2).flatten(2))
        return gradient.mT.reshape(shape), ()

    def tangent(self, p: Tensors, dp: Tensors, saved: Any, dx: Tensor | None) -> tuple[Tensor | None, Any]:
        if dx is None:
            return None, None
        places, shape = saved
        pixels = dx.flatten(0, 1).flatten(1, 2).mT
        dy = pixels.gather(2, places.flatten(2)).view(places.shape).permute(0, 2, 3, 1)
        return _by_task(dy, shape), None


class TaskGlobalMean(_LinearMap):
    """[num_tasks, n, height, width, channels] -> [num_tasks, n, channels]."""

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        return x.mean((2, 3)), x.shape

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        return (gy / (saved[2] * saved[3]))[:, :, None, None].expand(saved), ()


class TaskFlatten(_LinearMap):
    """[num_tasks, n, height, width, channels] -> [num_tasks, n, channels * height * width]."""

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Any]:
        return x.permute(0, 1, 4, 2, 3).flatten(2), x.shape

    def backward(self, p: Tensors, saved: Any, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        num_tasks, n, height, width, channels = saved
        return gy.view(num_tasks, n, channels, height, width).permute(0, 1, 3, 4, 2).contiguous(), ()


# Up to this many classes, a softmax along the strided dimension of classes put before the inputs is faster than one
# along a contiguous dimension so short.
FEW_CLASSES = 4


def loss_gradient(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Any]:
    """Return the gradient of each task's `example_loss` with respect to its outputs, and what the tangent needs.

    Args:
        outputs: [num_tasks, n, num_outputs].
        targets: [num_tasks, n] int64 or [num_tasks, n, 1] float.
    """
    n, num_outputs = outputs.shape[1:]
    if targets.dtype == torch.int64:
        is_short = num_outputs <= FEW_CLASSES
        probabilities = outputs.mT.contiguous().softmax(1).mT.contiguous() if is_short else outputs.softmax(-1)
        minus_one = outputs.new_full((1, 1, 1), -1.0).expand(*targets.shape, 1)
        return probabilities.scatter_add(-1, targets.unsqueeze(-1), minus_one).div_(n), probabilities
    return (outputs - targets).div_(n), None


def loss_gradient_tangent(saved: Any, d_outputs: Tensor) -> Tensor:
    """Return how `loss_gradient` moves when the outputs move."""
    n = d_outputs.shape[1]
    if saved is None:
        return d_outputs / n
    if saved.shape[-1] <= FEW_CLASSES:
        along: Tensor = saved * d_outputs
        return along.addcmul_(saved, along.sum(-1, keepdim=True), value=-1).div_(n)
    moved: Tensor = torch.ops.aten._softmax_backward_data(d_outputs, saved, -1, saved.dtype)
    return moved.div_(n)
