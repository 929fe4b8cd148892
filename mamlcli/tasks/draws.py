"""Draw a batch of synthetic tasks, each task from its own generator.

All is drawn in float64 on the CPU, straight into the batch, which is cast and moved once; so a task is the same in
any batch. What follows the draws is done once for all tasks, as a task of a few points costs no more than calling
for it. Two things are not:

- Products of matrices are not used: a BLAS may round them by how many there are and where they lie in memory.
- Functions that torch computes in vectors, with a remainder computed otherwise (sine, sigmoid), have a call of their
  own for each task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mamlcli.tasks.episodes import Episode


def empty(*shape: int) -> Tensor:
    """Return a float64 tensor on the CPU to draw into."""
    return torch.empty(shape, dtype=torch.float64)


def draw(generators: Sequence[torch.Generator], parts: Sequence[tuple[Tensor, str]]) -> None:
    """Draw every task's parts in their order from its own generator, each straight into its place in the batch.

    Args:
        generators: one per task.
        parts: [num_tasks, ...] each, and the distribution of its entries: "normal", N(0, 1), or "uniform", U(0, 1).
    """
    draws = [Tensor.normal_ if distribution == "normal" else Tensor.uniform_ for _, distribution in parts]
    parts_by_task = zip(*(batch.unbind() for batch, _ in parts), strict=True)
    for generator, parts_of_task in zip(generators, parts_by_task, strict=True):
        for draw_into, part in zip(draws, parts_of_task, strict=True):
            draw_into(part, generator=generator)


def linear_outputs(weights: Tensor, x: Tensor) -> Tensor:
    """Return t.x of every point, [num_tasks, num_points], each the sum of one row: the same bits in any batch.

    Args:
        weights: t, [num_tasks, dimension], float64.
        x: [num_tasks, num_points, dimension], float64.
    """
    return (x * weights.unsqueeze(1)).sum(dim=-1)


def between(low: float, high: float, fraction: Tensor) -> Tensor:
    """Return the values at fractions, in [0, 1), of the way from `low` to `high`."""
    return low + (high - low) * fraction


def episode_of(
    points: Sequence[tuple[Tensor, Tensor]], truth: dict[str, Tensor], *, dtype: torch.dtype, device: torch.device
) -> Episode:
    """Return the (inputs, targets) of support and query as an episode, cast and moved; labels stay integers."""

    def moved(batch: Tensor) -> Tensor:
        # The cast comes first: not every device has float64.
        return (batch.to(dtype) if batch.is_floating_point() else batch).to(device)

    (support_x, support_y), (query_x, query_y) = ((moved(x), moved(y)) for x, y in points)
    return Episode(support_x, support_y, query_x, query_y, truth)


def in_float64(values: Tensor) -> Tensor:
    """Return values as float64, on their device, or on the CPU where the device has no float64 (mps)."""
    return (values.cpu() if values.device.type == "mps" else values).double()
