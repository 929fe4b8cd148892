"""Batch norms can take their statistics from the support set alone, so that no prediction depends on another query."""

from __future__ import annotations

import copy
from functools import lru_cache

from torch import Tensor

from mamlcli.engine.networks import BatchStatisticsNorm, Network


class FirstImagesNorm(BatchStatisticsNorm):
    """Normalises as `BatchStatisticsNorm` does, by the statistics of the first `num_first` images of the batch."""

    def __init__(self, norm: BatchStatisticsNorm, num_first: int) -> None:
        super().__init__(len(norm.weight), norm.epsilon)
        self.weight, self.bias, self.num_first = norm.weight, norm.bias, num_first

    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x, x[: self.num_first])


# Tasks of a run have support sets of one size; making the copy would cost more than a small network's forward pass.
@lru_cache(maxsize=8)
def with_statistics_of_first(network: Network, num: int) -> Network:
    """Return a copy of the network whose batch norms take their statistics from the first `num` images of a batch.

    Parameter names are the same, so it runs with the same parameters. Given a support set of `num` images and then
    query images, each output depends on its own image and the support set only.
    """
    changed = copy.deepcopy(network)
    for parent in list(changed.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BatchStatisticsNorm):
                setattr(parent, name, FirstImagesNorm(child, num))
    return changed
