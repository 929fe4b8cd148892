"""Score a linear probe: logistic regression on the features of the support set, with a body that is not adapted.

What a run scores above its probe is what adaptation adds to the features that meta-training found.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from mamlcli.common.names import LINEAR_PROBE
from mamlcli.engine.execution import Execution, chunks, over_chunks, run_chunk
from mamlcli.engine.explicit.objective import explicit_objective
from mamlcli.engine.networks import Network, Params
from mamlcli.engine.objective import MetaObjective, task_features
from mamlcli.tasks.draws import in_float64
from mamlcli.tasks.episodes import Episode, ReferenceScores

# A probe is fitted when no entry of its stationarity condition is larger, in float64; see `fitted_probe`.
TOLERANCE = 1e-8

# Far more than are needed: some 20 on shipped recipes.
_MAX_ITERATIONS = 10_000


def probe_references(
    objective: MetaObjective, model: Params, episode: Episode, execution: Execution
) -> dict[str, ReferenceScores]:
    """Return the scores of the linear probe by its name; nothing where inputs are no images, or nothing is learned
    of the features.

    It has no loss: its cross-entropy says more of the penalty than of the features.

    Args:
        objective: network, and how query images are normalised.
        model: theta, which is not adapted.
        episode: the tasks.
        execution: how they are run.
    """
    is_of_images = episode.support_x.ndim == 5 and not episode.support_y.is_floating_point()
    if not (is_of_images and _learns_features(objective.network)):
        return {}

    of_chunk = partial(_kernels, objective, model, execution=execution)
    with torch.no_grad():
        parts = over_chunks(of_chunk, chunks(episode, execution), execution)
        of_support, of_query = (torch.cat(kernels) for kernels in zip(*parts, strict=True))
        weights, biases = fitted_probe(of_support, in_float64(functional.one_hot(episode.support_y)))
        logits = of_query @ weights + biases
    accuracy = (logits.argmax(dim=-1) == episode.query_y.to(logits.device)).double().mean(dim=1)
    # Features that overflowed have no probe, and not one that is as good as guessing.
    accuracy = accuracy.masked_fill(~logits.isfinite().all(dim=(1, 2)), torch.nan).cpu()
    return {LINEAR_PROBE: ReferenceScores(loss=None, accuracy=accuracy)}


def _kernels(objective: MetaObjective, model: Params, chunk: Episode, *, execution: Execution) -> tuple[Tensor, Tensor]:
    """Return the products of features of length 1, support with support and query with support, float64."""
    if execution.path == "explicit":
        explicit = explicit_objective(objective, chunk.support_x.device.type)
        assert explicit is not None, "the path was chosen for this network"
        features = explicit.features(model, chunk.support_x, chunk.query_x)
    else:
        features = run_chunk(partial(_features_of_task, objective), model, {}, chunk, execution)
    support, query = (functional.normalize(in_float64(part.flatten(2)), dim=2) for part in features)
    return support @ support.mT, query @ support.mT


def _features_of_task(
    objective: MetaObjective,
    model: Params,
    xi: Params,
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
) -> tuple[Tensor, Tensor]:
    return task_features(objective.network, model, objective.inner, support_x, query_x)


def _learns_features(network: Network) -> bool:
    return network.has_features and len(network.parameter_names()) > len(network.head_parameter_names())


def fitted_probe(kernel: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Fit multinomial logistic regression to the support set of each task, with a penalty on the weights.

    The smallest of sum_i CE(W f_i + b, y_i) + 1/2 |W|^2 over W and b. Its W is A^T F, where F [n, d] has the features
    f_i as rows, so that products of features, K = F F^T, are enough: the logits are K A + 1 b. With the residuals
    R = softmax(K A + 1 b) - Y the smallest has A = -R and 1^T R = 0.

    A step goes to the minimum of a quadratic bound: the Hessian of cross-entropy in the logits is at most 1/2, so

        (K / 2 + I) dA + 1/2 1 db = -(R + A),    1^T dA = -1^T A.

    No step raises the loss, and every step is a product with one inverse, of a matrix that has no small eigenvalues.
    A task is done when no entry of R + A is larger than `TOLERANCE`; other tasks do not change its result.

    Args:
        kernel: K, [num_tasks, num_support, num_support], float64.
        labels: Y, one-hot, [num_tasks, num_support, ways], float64.

    Returns:
        (A [num_tasks, num_support, ways], b [num_tasks, 1, ways]).

    Source: Tian et al. 2020, arXiv 2003.11539, section 3, and its code: features of length 1, scikit-learn's
        logistic regression with C = 1, whose objective this is. Bohning 1992, Multinomial logistic regression
        algorithm, Ann. Inst. Statist. Math. 44, for the bound.
    Differs from the source: the same minimum by other steps.
    """
    num_tasks, num_support, num_classes = labels.shape
    ones = labels.new_ones(num_tasks, num_support, 1)
    above = torch.cat([kernel / 2 + torch.eye(num_support, dtype=kernel.dtype, device=kernel.device), ones / 2], dim=2)
    below = functional.pad(ones.mT, (0, 1))
    inverse = torch.linalg.inv(torch.cat([above, below], dim=1))
    weights, biases = torch.zeros_like(labels), labels.new_zeros(num_tasks, 1, num_classes)
    for _ in range(_MAX_ITERATIONS):
        unmet = torch.softmax(kernel @ weights + biases, dim=2) - labels + weights
        is_open = unmet.abs().amax(dim=(1, 2), keepdim=True) > TOLERANCE
        if not bool(is_open.any()):
            break
        right = torch.cat([unmet, weights.sum(dim=1, keepdim=True)], dim=1)
        step = (inverse @ right) * is_open
        weights, biases = weights - step[:, :num_support], biases - step[:, num_support:]
    return weights, biases
