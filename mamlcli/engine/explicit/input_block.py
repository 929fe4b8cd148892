"""Compute the first block of a network over many tasks at once, as one matrix product; derivatives are written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.engine.explicit.convolution import TaskConv
from mamlcli.engine.explicit.gradients import Gradients, multiplied_out
from mamlcli.engine.explicit.layers import Saved, TaskGlobalMean, TaskLayer, Tensors
from mamlcli.engine.networks import NORM_EPSILON

_masked = torch.ops.aten.threshold_backward


class _Filters(NamedTuple):
    """The filters of a block, [num_tasks, out, k], and how its batch norm scales each, [num_tasks, out, 1].

    Attributes:
        covariance: C, [num_tasks, k, k].
        w: of the convolution.
        weight: of the batch norm.
        r: 1 / sqrt(w^T C w + epsilon).
        scale: weight r.
        spread: C w, as w.
    """

    covariance: Tensor
    w: Tensor
    weight: Tensor
    r: Tensor
    scale: Tensor
    spread: Tensor


class _Directions(NamedTuple):
    """The directions of what `_Filters` has under the same names."""

    w: Tensor
    weight: Tensor
    r: Tensor
    scale: Tensor


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
        num_tasks, n, height, width, _ = x.shape
        rows = self.convolution.patch_rows(x)
        patches = rows[:, :-1]
        patches -= patches.mean(2, keepdim=True)
        return rows.mT.contiguous().view(num_tasks, n, *self.convolution.output_size(height, width), -1)

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

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        centred = x.flatten(1, 3)[..., :-1]
        covariance = torch.bmm(centred.mT, centred).div_(centred.shape[1])
        w, weight = p[0].flatten(2), p[2].unsqueeze(-1)
        spread = torch.bmm(w, covariance)
        r = (w * spread).sum(-1, keepdim=True).add_(NORM_EPSILON).rsqrt_()
        filters = _Filters(covariance, w, weight, r, weight * r, spread)
        y, kept = self._outputs(x, torch.cat([w * filters.scale, p[3].unsqueeze(-1)], dim=-1))
        return y, Saved((*filters, *kept), x.shape)

    def _saved(self, saved: Saved) -> tuple[_Filters, Tensors]:
        number = len(_Filters._fields)
        return _Filters(*saved.tensors[:number]), saved.tensors[number:]

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[None, Tensors]:
        """Return None, the gradients of the parameters, and G and <w, G>, which `tangent_backward` takes with them."""
        assert not with_input, "the images are given"
        of, kept = self._saved(saved)
        gradient = self._factor_gradient(kept, gy)
        g, total = gradient[..., :-1], gradient[..., -1]
        along = (of.w * g).sum(-1, keepdim=True)
        gw = of.scale * torch.addcmul(g, of.r.square() * along, of.spread, value=-1)
        return None, (gw.view(p[0].shape), torch.zeros_like(p[1]), (of.r * along).squeeze(-1), total, g, along)

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor, Tensors]:
        assert dx is None, "the images are given"
        of, kept = self._saved(saved)
        dw, dweight = dp[0].flatten(2), dp[2].unsqueeze(-1)
        dr = -of.r.pow(3) * (of.spread * dw).sum(-1, keepdim=True)
        d = _Directions(dw, dweight, dr, dweight * of.r + of.weight * dr)
        da = (d.scale * of.w).addcmul_(of.scale, dw)
        return self._moved(kept, torch.cat([da, dp[3].unsqueeze(-1)], dim=-1)), d

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
    ) -> tuple[None, Tensors]:
        assert not with_input, "the images are given"
        (of, kept), d = self._saved(saved), _Directions(*moved)
        g, along = (multiplied_out(value) for value in gp[-2:])
        gradient = self._factor_gradient(kept, dgy)
        dg, dtotal = gradient[..., :-1], gradient[..., -1]
        h, dalong = of.r.square() * along, (d.w * g).addcmul_(of.w, dg).sum(-1, keepdim=True)
        dh = 2 * of.r * d.r * along + of.r.square() * dalong
        dgw = d.scale * torch.addcmul(g, h, of.spread, value=-1)
        moving = torch.addcmul(dg, dh, of.spread, value=-1).addcmul_(h, torch.bmm(d.w, of.covariance), value=-1)
        dgw.addcmul_(of.scale, moving)
        dnorm = (d.r * along + of.r * dalong).squeeze(-1)
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
