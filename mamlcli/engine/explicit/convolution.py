"""Convolve the images of many tasks at once; first and second derivatives are written out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mamlcli.engine.explicit.gradients import Gradients
from mamlcli.engine.explicit.layers import Saved, Tensors, sum_of

_backward = torch.ops.aten.convolution_backward


@dataclass(frozen=True)
class TaskConv:
    """Computes 3x3 convolutions with padding 1, [num_tasks, n, height, width, in] -> [num_tasks, n, ..., out].

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
        view = self._windows(x)
        num_tasks, n, high, wide = view.shape[:4]
        return view.reshape(num_tasks, n * high * wide, -1)

    def patch_rows(self, x: Tensor) -> Tensor:
        """Return the patches and a row of ones, [num_tasks, 9 * in + 1, n * height_out * width_out].

        With few channels, copying a pixel of all patches at a time takes half as long as patch after patch.
        """
        view = self._windows(x).permute(0, 4, 5, 6, 1, 2, 3)
        rows = x.new_ones(len(x), view[0, :, :, :, 0, 0, 0].numel() + 1, view[0, 0, 0, 0].numel())
        rows[:, :-1].view(view.shape).copy_(view)
        return rows

    def _windows(self, x: Tensor) -> Tensor:
        """Return a view of every patch, [num_tasks, n, height_out, width_out, 3, 3, in]."""
        num_tasks, n, height, width, channels = x.shape
        padded = functional.pad(x, (0, 0, 1, 1, 1, 1))
        a, b, row, column, c = padded.stride()
        high, wide = self.output_size(height, width)
        return padded.as_strided(
            (num_tasks, n, high, wide, 3, 3, channels),
            (a, b, row * self.stride, column * self.stride, row, column, c),
        )

    def _fold(self, patches: Tensor, shape: torch.Size) -> Tensor:
        """Return the sum of all patches at their places: the transpose of `unfold`."""
        num_tasks, n, height, width, channels = shape
        high, wide = self.output_size(height, width)
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

    def _places(self, entry: int, size: int, size_out: int) -> tuple[slice[int, int, int], slice[int, int]]:
        """Return (the pixels that an entry of the patches lies on, the patches in which it lies on any)."""
        first = 1 if entry == 0 else 0
        start = first * self.stride + entry - 1
        last = min(size_out - 1, (size - entry) // self.stride)
        return slice(start, last * self.stride + entry, self.stride), slice(first, last + 1)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the outputs."""
        return (height - 1) // self.stride + 1, (width - 1) // self.stride + 1

    def _multiply(self, x: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        """Return the convolution of x, or of its patches, with a weight; added to `onto` in place."""
        if self.is_unfolded:
            matrix = weight.flatten(2).mT
            return torch.bmm(x, matrix) if onto is None else onto.baddbmm_(x, matrix)
        outputs = [
            functional.conv2d(a.permute(0, 3, 1, 2), w.permute(0, 3, 1, 2), None, self.stride, 1).permute(0, 2, 3, 1)
            for a, w in zip(x.unbind(), weight.unbind(), strict=True)
        ]
        y = outputs[0].unsqueeze(0) if len(outputs) == 1 else torch.stack(outputs)
        return sum_of(y, onto)

    def _weight_gradient(self, gy: Tensor, x: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        if self.is_unfolded:
            if onto is None:
                return torch.bmm(gy.flatten(1, -2).mT, x).view(weight.shape)
            return onto.flatten(2).baddbmm_(gy.flatten(1, -2).mT, x).view(weight.shape)
        return sum_of(self._backward(gy, x, weight, [False, True, False]), onto)

    def _input_gradient(self, gy: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return self._backward(gy, x, weight, [True, False, False])

    def _backward(self, gy: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> Tensor:
        gradients = []
        for g, a, w in zip(gy.unbind(), x.unbind(), weight.unbind(), strict=True):
            parts = _backward(
                g.permute(0, 3, 1, 2),
                a.permute(0, 3, 1, 2),
                w.permute(0, 3, 1, 2),
                None,
                [self.stride] * 2,
                [1, 1],
                [1, 1],
                False,
                [0, 0],
                1,
                mask,
            )
            gradients.append(parts[0 if mask[0] else 1].permute(0, 2, 3, 1))
        return gradients[0].contiguous().unsqueeze(0) if len(gradients) == 1 else torch.stack(gradients)

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        """Return (y, saved); x may be the patches already, [num_tasks, n, height_out, width_out, 9 * in]."""
        num_tasks, n, height, width, channels = x.shape
        high, wide = self.output_size(height, width)
        if not self.is_unfolded:
            factor = x
        elif channels == 9 * p[0].shape[-1]:
            high, wide, factor = height, width, x.flatten(1, 3)
        else:
            factor = self.unfold(x)
        y = self._multiply(factor, p[0]).view(num_tasks, n, high, wide, p[0].shape[1])
        return y.add_(p[1][:, None, None, None]) if self.has_bias else y, Saved((factor,), x.shape)

    def prepared(self, x: Tensor) -> Tensor:
        """Return what `forward` takes instead of x, so that a fixed input is gathered into patches once."""
        if not self.is_unfolded:
            return x
        num_tasks, n, height, width, _ = x.shape
        return self.unfold(x).view(num_tasks, n, *self.output_size(height, width), -1)

    def _bias_gradient(self, gy: Tensor, p: Tensors) -> Tensor:
        return gy.flatten(1, -2).sum(1) if self.has_bias else torch.zeros_like(p[1])

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        (factor,), shape = saved
        gradients = (self._weight_gradient(gy, factor, p[0]), self._bias_gradient(gy, p))
        if not with_input:
            return None, gradients
        if self.is_unfolded:
            return self._fold(torch.bmm(gy.flatten(1, -2), p[0].flatten(2)), shape), gradients
        return self._input_gradient(gy, p[0], factor), gradients

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor | None, Tensors]:
        (factor,), shape = saved
        dy = self._multiply(factor, dp[0])
        moved: Tensors = ()
        if dx is not None:
            moved = (self.unfold(dx) if self.is_unfolded else dx,)
            dy = self._multiply(moved[0], p[0], onto=dy)
        num_tasks, n, height, width, channels = shape
        size = (height, width) if channels == 9 * p[0].shape[-1] else self.output_size(height, width)
        dy = dy.view(num_tasks, n, *size, p[0].shape[1])
        return dy.add_(dp[1][:, None, None, None]) if self.has_bias else dy, moved

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
    ) -> tuple[Tensor | None, Tensors]:
        (factor,), shape = saved
        weight = self._weight_gradient(dgy, factor, p[0])
        if moved:
            weight = self._weight_gradient(gy, moved[0], p[0], onto=weight)
        gradients = (weight, self._bias_gradient(dgy, p))
        if not with_input:
            return None, gradients
        if self.is_unfolded:
            patches = torch.bmm(dgy.flatten(1, -2), p[0].flatten(2))
            return self._fold(patches.baddbmm_(gy.flatten(1, -2), dp[0].flatten(2)), shape), gradients
        return self._input_gradient(dgy, p[0], factor).add_(self._input_gradient(gy, dp[0], factor)), gradients
