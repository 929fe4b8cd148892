"""The multi-step loss: early in training, the outer loss is a weighted sum over the inner steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# The weights w_1, ..., w_K of the query losses after each inner step; as tensors [] where they are recorded.
StepWeights = tuple[float | Tensor, ...]


def step_weights(iteration: int, *, num_iterations: int | None, num_inner_steps: int) -> StepWeights | None:
    """Return the weights of the query losses at phi_1, ..., phi_K in a meta-iteration.

    w_k = (1 - i / N) / K for k < K, and w_K = 1 minus their sum: equal at iteration i = 0, the last step alone at
    iteration N.

    Args:
        iteration: i, counted from 0.
        num_iterations: N, `outer.multi_step_loss`; None for the last step alone throughout.
        num_inner_steps: K.

    Returns:
        The weights, which sum to one; None where the last step alone counts, and no other need be scored.

    Source: Antoniou et al. 2019, How to train your MAML, arXiv 1810.09502, section 4, multi-step loss (MSL).
    Differs from the source: the weights change with every iteration, in its code with every epoch; there those of
        earlier steps stay above 0.03 / K until epoch N, here they go to zero.
    """
    if num_iterations is None or iteration >= num_iterations:
        return None
    earlier = (1 - iteration / num_iterations) / num_inner_steps
    return (*[earlier] * (num_inner_steps - 1), 1 - earlier * (num_inner_steps - 1))


def weighted_scores(weights: StepWeights, scores: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return (the weighted sum of the query losses, the accuracy after the last inner step), [...] each.

    Args:
        weights: of phi_1, ..., phi_K.
        scores: (loss, accuracy) on the query set after each inner step, [2, ...].
    """
    losses = [weight * score[0] for weight, score in zip(weights, scores, strict=True)]
    return torch.stack(losses).sum(0), scores[-1][1].detach()
