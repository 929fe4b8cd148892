"""Compute the first block of a network over many tasks at once, as one matrix product; derivatives are written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.engine.explicit.convolution import TaskConv
from mamlcli.engine.explicit.layers import Saved, Tensors
from mamlcli.engine.networks import NORM_EPSILON

_masked = torch.ops.aten.threshold_backward


class _Scaled(NamedTuple):
    """How the batch norm scales each filter. The filters are [num_tasks, out, k], all else is [num_tasks, out, 1].

    Attributes:
        r: 1 / sqrt(variance + epsilon).
        weight: of the batch norm.
        filters: of the convolution.
        spread: the covariance of the patches times each filter.
    """

    r: Tensor
    weight: Tensor
    filters: Tensor
    spread: Tensor


@dataclass(frozen=True)
class TaskInputBlock:
    """Computes relu(batch_norm(convolution(x))) of images that are given and have no gradient.

    The convolution is linear in the patches P of the images, so its mean and variance per channel follow from those of
    the patches, once for all inner steps: with centred patches and their covariance C = P^T P / N, the filter w of a
    channel has the variance w^T C w, and with r = 1 / sqrt(w^T C w + epsilon)

        y = relu(P a + bias), a = weight r w.

    One product and one ReLU are all that passes over the activations; all else has the size of the filters. With G =
    P^T (gradient of P a + bias) and h = r^2 <w, G>, the gradients are

        weight: r <w, G>,    w: weight r (G - h C w),    bias: the sum of the gradient,

    and `tangent_backward` returns their derivatives along the directions of w, weight, bias and G, by the product rule
    with dr = -r^3 <w, C dw>. The bias of the convolution has no effect: the mean takes it out.

    What it computes is what `TaskConv`, `TaskBatchNorm` and `TaskReLU` compute one after the other, up to rounding.

    Attributes:
        names: of the convolution's weight and bias, and of the norm's.
        convolution: which gathers patches.
    """

    names: tuple[str, ...]
    convolution: TaskConv

    def prepared(self, x: Tensor) -> Tensor:
        """Return what `forward` takes of images: centred patches and a one, [num_tasks, n, height, width, k + 1]."""
        patches = self.convolution.prepared(x)
        flat = patches.flatten(1, 3)
        centred = patches.new_ones(*patches.shape[:-1], patches.shape[-1] + 1)
        torch.sub(flat, flat.mean(1, keepdim=True), out=centred.flatten(1, 3)[..., :-1])
        return centred

    def _scaled(self, p: Tensors, covariance: Tensor) -> _Scaled:
        filters = p[0].flatten(2)
        spread = torch.bmm(filters, covariance)
        variance = (filters * spread).sum(-1, keepdim=True)
        return _Scaled((variance + NORM_EPSILON).rsqrt_(), p[2].unsqueeze(-1), filters, spread)

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        patches = x.flatten(1, 3)
        centred = patches[..., :-1]
        covariance = torch.bmm(centred.mT, centred).div_(patches.shape[1])
        at = self._scaled(p, covariance)
        factor = torch.cat([at.filters * (at.r * at.weight), p[3].unsqueeze(-1)], dim=-1)
        y = torch.bmm(patches, factor.mT).relu_().view(*x.shape[:4], -1)
        return y, Saved((patches, covariance, y), x.shape)

    def _products(self, gy: Tensor, saved: Saved) -> tuple[Tensor, Tensor]:
        """Return (G, the sums of the gradient), [num_tasks, out, k] and [num_tasks, out]."""
        patches, _, y = saved.tensors
        products = torch.bmm(_masked(gy, y, 0).flatten(1, 3).mT, patches)
        return products[..., :-1], products[..., -1]

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[None, Tensors]:
        assert not with_input, "the images are given"
        at = self._scaled(p, saved.tensors[1])
        g, total = self._products(gy, saved)
        along = (at.filters * g).sum(-1, keepdim=True)
        filters = at.weight * at.r * (g - at.r.square() * along * at.spread)
        return None, (filters.view(p[0].shape), torch.zeros_like(p[1]), (at.r * along).squeeze(-1), total, g, along)

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor, Tensors]:
        assert dx is None, "the images are given"
        patches, covariance, y = saved.tensors
        at = self._scaled(p, covariance)
        dfilters, dweight, dr = self._directions(dp, at)
        dfactor = (dweight * at.r + at.weight * dr) * at.filters + at.weight * at.r * dfilters
        dy = torch.bmm(patches, torch.cat([dfactor, dp[3].unsqueeze(-1)], dim=-1).mT)
        return _masked(dy.view(y.shape), y, 0), ()

    def _directions(self, dp: Tensors, at: _Scaled) -> tuple[Tensor, Tensor, Tensor]:
        """Return the directions of the filters, of the norm's weight, and of r."""
        dfilters = dp[0].flatten(2)
        dr = -at.r.pow(3) * (at.spread * dfilters).sum(-1, keepdim=True)
        return dfilters, dp[2].unsqueeze(-1), dr

    def tangent_backward(
        self,
        p: Tensors,
        dp: Tensors,
        saved: Saved,
        moved: Tensors,
        gy: Tensor,
        gp: Tensors,
        dgy: Tensor,
        with_input: bool,
    ) -> tuple[None, Tensors]:
        assert not with_input, "the images are given"
        covariance = saved.tensors[1]
        at = self._scaled(p, covariance)
        r, weight, w, spread = at
        dw, dweight, dr = self._directions(dp, at)
        dg, dtotal = self._products(dgy, saved)
        *_, g, along = gp
        h = r.square() * along
        dalong = (dw * g + w * dg).sum(-1, keepdim=True)
        dh = 2 * r * dr * along + r.square() * dalong
        dspread = torch.bmm(dw, covariance)
        dfilters = (dweight * r + weight * dr) * (g - h * spread)
        dfilters += weight * r * (dg - dh * spread - h * dspread)
        dnorm = (dr * along + r * dalong).squeeze(-1)
        return None, (dfilters.view(p[0].shape), torch.zeros_like(p[1]), dnorm, dtotal)
