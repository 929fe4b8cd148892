"""Normalise the images of many tasks at once; first and second derivatives are written out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mamlcli.engine.explicit.gradients import Gradients, multiplied_out
from mamlcli.engine.explicit.layers import Saved, Tensors
from mamlcli.engine.networks import NORM_EPSILON


@dataclass(frozen=True)
class TaskBatchNorm:
    """Computes y = x_hat * weight + bias with x_hat = (x - mean) / sqrt(var + epsilon), per task and channel.

    With r = 1 / sqrt(var + epsilon) and Q(v) = v - mean(v) - x_hat mean(x_hat v), the derivative of x_hat along v
    is r Q(v), and so is its transpose. Moving x by dx moves x_hat by u = r Q(dx), and r by -r^2 mean(x_hat dx);
    hence r Q(g), the gradient of x for a gradient g of x_hat, moves by
    r Q(dg) - r^2 mean(x_hat dx) Q(g) - r (mean(x_hat g) u + x_hat mean(u g)).
    As g = weight * gy, and the weight is one number for each channel, all of it is a sum of gy, dgy, x_hat and u with
    one factor per channel each, and the means in those are sums that the gradients of the parameters need anyway.

    Attributes:
        names: of weight and bias.
        num_first: images at the start of a task's batch whose statistics are taken, for `forward` alone; None for all.
    """

    names: tuple[str, ...]
    num_first: int | None = None

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        weight, bias = p[0].unsqueeze(1), p[1].unsqueeze(1)
        if self.num_first is not None:
            first = x[:, : self.num_first].flatten(1, -2)
            variance, mean = torch.var_mean(first, dim=1, keepdim=True, correction=0)
            scale = weight * torch.rsqrt(variance + NORM_EPSILON)
            return torch.addcmul(bias - mean * scale, x.flatten(1, -2), scale).view(x.shape), Saved((), x.shape)
        v = x.flatten(1, -2)
        x_hat = v - v.sum(1, keepdim=True).div_(v.shape[1])
        r = (x_hat * x_hat).sum(1, keepdim=True).div_(v.shape[1]).add_(NORM_EPSILON).rsqrt_()
        x_hat.mul_(r)
        return torch.addcmul(bias, x_hat, weight).view(x.shape), Saved((x_hat, r), x.shape)

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        x_hat, r = saved.tensors
        g = gy.flatten(1, -2)
        along, total = (g * x_hat).sum(1), g.sum(1)
        if not with_input:
            return None, (along, total)
        factor = r * p[0].unsqueeze(1)
        share = factor / -g.shape[1]
        gx = torch.addcmul(share * total.unsqueeze(1), x_hat, share * along.unsqueeze(1)).addcmul_(g, factor)
        return gx.view(gy.shape), (along, total)

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor | None, Tensors]:
        x_hat, r = saved.tensors
        if dx is None:
            raise AssertionError("a convolution comes before a batch norm, and its weight has a direction")
        v = dx.flatten(1, -2)
        along = (v * x_hat).sum(1, keepdim=True).div_(v.shape[1])
        mean = v.sum(1, keepdim=True).div_(v.shape[1])
        u = torch.addcmul(-r * mean, x_hat, -r * along).addcmul_(v, r)
        dy = torch.addcmul(dp[1].unsqueeze(1), x_hat, dp[0].unsqueeze(1)).addcmul_(u, p[0].unsqueeze(1))
        return dy.view(dx.shape), (u, along)

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
        x_hat, r = saved.tensors
        u, along = moved
        g, dg = gy.flatten(1, -2), dgy.flatten(1, -2)
        dg_along, dg_total = (dg * x_hat).sum(1, keepdim=True), dg.sum(1, keepdim=True)
        g_moved = (g * u).sum(1, keepdim=True)
        gradients = ((dg_along + g_moved).squeeze(1), dg_total.squeeze(1))
        if not with_input:
            return None, gradients
        weight, dweight = p[0].unsqueeze(1), dp[0].unsqueeze(1)
        g_along, g_total = (multiplied_out(value).unsqueeze(1) for value in gp)
        # Q(dweight gy + weight dgy - r along weight gy), then the terms in which x_hat itself moves.
        turn = dweight - r * along * weight
        on_x_hat = turn * g_along + weight * (dg_along + g_moved)
        share = r / -g.shape[1]
        dgx = torch.addcmul(share * (turn * g_total + weight * dg_total), x_hat, share * on_x_hat)
        dgx.addcmul_(g, r * turn).addcmul_(dg, r * weight).addcmul_(u, share * weight * g_along)
        return dgx.view(gy.shape), gradients


@dataclass(frozen=True)
class TaskGroupNorm:
    """Does as `TaskBatchNorm`, over the pixels and the channels of one of `num_groups` groups of an image."""

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

    def forward(self, p: Tensors, x: Tensor) -> tuple[Tensor, Saved]:
        v = self._view(x)
        x_hat = v - self._mean(v)
        r = self._mean(x_hat * x_hat).add_(NORM_EPSILON).rsqrt_()
        x_hat.mul_(r)
        y = torch.addcmul(p[1].unsqueeze(1), x_hat.view(x.shape[0], -1, x.shape[-1]), p[0].unsqueeze(1))
        return y.view(x.shape), Saved((x_hat, r), x.shape)

    def _parameter_gradients(self, gy: Tensor, x_hat: Tensor) -> Tensors:
        flat = gy.flatten(1, -2)
        return (flat * x_hat.view(flat.shape)).sum(1), flat.sum(1)

    def backward(self, p: Tensors, saved: Saved, gy: Tensor, with_input: bool) -> tuple[Tensor | None, Tensors]:
        x_hat, r = saved.tensors
        gradients = self._parameter_gradients(gy, x_hat)
        if not with_input:
            return None, gradients
        g = self._view(gy * p[0][:, None, None, None])
        return self._q(g, x_hat)[0].mul_(r).view(gy.shape), gradients

    def tangent(self, p: Tensors, dp: Tensors, saved: Saved, dx: Tensor | None) -> tuple[Tensor | None, Tensors]:
        x_hat, r = saved.tensors
        if dx is None:
            raise AssertionError("a convolution comes before a group norm, and its weight has a direction")
        u, along = self._q(self._view(dx), x_hat)
        u.mul_(r)
        flat = (dx.shape[0], -1, dx.shape[-1])
        dy = torch.addcmul(dp[1].unsqueeze(1), x_hat.view(flat), dp[0].unsqueeze(1))
        return dy.addcmul_(u.view(flat), p[0].unsqueeze(1)).view(dx.shape), (u, along)

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
        x_hat, r = saved.tensors
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
