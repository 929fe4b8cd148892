"""Compute the first block of a network over many tasks at once, as one matrix product; derivatives are written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.engine.explicit.convolution import TaskConv
from mamlcli.engine.explicit.layers import Saved, TaskGlobalMean, TaskLayer, Tensors
from mamlcli.engine.networks import NORM_EPSILON

_masked = torch.ops.aten.threshold_backward


class _Filters(NamedTuple):
    """The filters of a block, [num_tasks, out, k], and how its batch norm scales each, [num_tasks, out, 1].

    Attributes:
        w: of the convolution.
        weight: of the batch norm.
        r: 1 / sqrt(w^T C w + epsilon).
        spread: C w, as w.
    """

    w: Tensor
    weight: Tensor
    r: Tensor
    spread: Tensor


@dataclass(frozen=True)
class TaskInputBlock:
    """Computes relu(batch_norm(convolution(x))) of images that are given and have no gradient.

    The convolution is linear in the patches P of the images, so its mean and variance per channel follow from those of
    the patches. With centred patches and their covariance C = P^T P / N, the filter w of a channel has the variance
    w^T C w, and with r = 1 / sqrt(w^T C w + epsilon)

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

    # What passes over the activations, the factor being a and bias side by side, [num_tasks, out, k + 1] ----------

    def _outputs(self, x: Tensor, factor: Tensor) -> tuple[Tensor, Tensors]:
        """Return the outputs for a factor, and what the next two methods need."""
        patches = x.flatten(1, 3)
        y = torch.bmm(patches, factor.mT).relu_().view(*x.shape[:4], -1)
        return y, (patches, y)

    def _factor_gradient(self, kept: Tensors, gy: Tensor) -> Tensor:
        """Return the gradient of the factor, for a gradient of the outputs."""
        patches, y = kept
        return torch.bmm(_masked(gy, y, 0).flatten(1, 3).mT, patches)

    def _moved(self, kept: Tensors, dfactor: Tensor) -> Tensor:
        """Return how the outputs move with the factor."""
        patches, y = kept
        moved: Tensor = _masked(torch.bmm(patches, dfactor.mT).view(y.shape), y, 0)
        return moved

    # What has the size of the filters ------------------------------------------------------------------------------

    def _filters(self, p: Tensors, covariance: Tensor) -> _Filters:
        w = p[0].flatten(2)
        spread = torch.bmm(w, covariance)
        variance = (w * spread).sum(-1, keepdim=True)
        return _Filters(w, p[2].unsqueeze(-1), variance.add_(NORM_EPSILON).rsqrt_(), spread)

    def _directions(self, dp: Tensors, filters: _Filters) -> tuple[Tensor, Tensor, Tensor]:
        """Return the directions of w, of the norm's weight, and of r."""
        dw = dp[0].flatten(2)
        dr = -filters.r.pow(3) * (filters.spread * dw).sum(-1, keepdim=True)
        return dw, dp[2].unsqueeze(-1), dr

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        centred = x.flatten(1, 3)[..., :-1]
        covariance = torch.bmm(centred.mT, centred).div_(centred.shape[1])
        w, weight, r, _ = self._filters(p, covariance)
        y, kept = self._outputs(x, torch.cat([w * (r * weight), p[3].unsqueeze(-1)], dim=-1))
        return y, Saved((covariance, *kept), x.shape)

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[None, Tensors]:
        """Return None, the gradients of the parameters, and G and <w, G>, which `tangent_backward` takes with them."""
        assert not with_input, "the images are given"
        covariance, *kept = saved.tensors
        w, weight, r, spread = self._filters(p, covariance)
        gradient = self._factor_gradient(tuple(kept), gy)
        g, total = gradient[..., :-1], gradient[..., -1]
        along = (w * g).sum(-1, keepdim=True)
        gw = weight * r * (g - r.square() * along * spread)
        return None, (gw.view(p[0].shape), torch.zeros_like(p[1]), (r * along).squeeze(-1), total, g, along)

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor, Tensors]:
        assert dx is None, "the images are given"
        covariance, *kept = saved.tensors
        filters = self._filters(p, covariance)
        w, weight, r, _ = filters
        dw, dweight, dr = self._directions(dp, filters)
        da = (dweight * r + weight * dr) * w + weight * r * dw
        return self._moved(tuple(kept), torch.cat([da, dp[3].unsqueeze(-1)], dim=-1)), ()

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
        covariance, *kept = saved.tensors
        filters = self._filters(p, covariance)
        w, weight, r, spread = filters
        dw, dweight, dr = self._directions(dp, filters)
        *_, g, along = gp
        gradient = self._factor_gradient(tuple(kept), dgy)
        dg, dtotal = gradient[..., :-1], gradient[..., -1]
        h, dalong = r.square() * along, (dw * g + w * dg).sum(-1, keepdim=True)
        dh = 2 * r * dr * along + r.square() * dalong
        dgw = (dweight * r + weight * dr) * (g - h * spread)
        dgw += weight * r * (dg - dh * spread - h * torch.bmm(dw, covariance))
        dnorm = (dr * along + r * dalong).squeeze(-1)
        return None, (dgw.view(p[0].shape), torch.zeros_like(p[1]), dnorm, dtotal)


class TaskInputBlockMean(TaskInputBlock):
    """Computes the mean over pixels of what `TaskInputBlock` computes.

    The mean over pixels of relu(P a + bias) is linear in the factor, but for which pixels are positive. The mean of
    their patches, [num_tasks, n, out, k + 1], is all that outputs and derivatives need.
    """

    def _outputs(self, x: Tensor, factor: Tensor) -> tuple[Tensor, Tensors]:
        num_tasks, n, height, width, k = x.shape
        is_positive = torch.bmm(x.flatten(1, 3), factor.mT).gt_(0).view(num_tasks * n, height * width, -1)
        patches = torch.bmm(is_positive.mT, x.view(num_tasks * n, height * width, k)).div_(height * width)
        kept = (patches.view(num_tasks, n, -1, k),)
        return self._moved(kept, factor), kept

    def _factor_gradient(self, kept: Tensors, gy: Tensor) -> Tensor:
        return (kept[0] * gy.unsqueeze(-1)).sum(1)

    def _moved(self, kept: Tensors, dfactor: Tensor) -> Tensor:
        return (kept[0] * dfactor.unsqueeze(1)).sum(-1)


def joined(layers: list[TaskLayer]) -> list[TaskLayer]:
    """Return layers of which a first block and a mean over pixels after it are one."""
    match layers:
        case [TaskInputBlock() as block, TaskGlobalMean(), *rest]:
            return [TaskInputBlockMean(block.names, block.convolution), *rest]
    return layers
