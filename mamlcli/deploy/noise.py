"""Computes the outputs of a trained model on one task of noise: a check of its weights that needs no data.

A shipped model has these outputs beside it. A test computes them again: other weights, or code that computes something
else with them, are found on every machine, whether or not the data of the model is there.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.common.files import atomic_write
from mamlcli.common.seeds import key_seed
from mamlcli.engine.objective import adapt_to, task_problem
from mamlcli.training.trained import TrainedRun, num_inner_steps

NOISE_OUTPUTS = "noise_outputs.npy"

# Images of each class, or points of a regression, in the support set and in the query set.
_PER_CLASS, _POINTS = 2, 10


def noise_task(
    input_shape: tuple[int, ...], num_outputs: int, *, is_classification: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a support set and query inputs of uniform noise, float32; the same bits on every machine.

    Args:
        input_shape: of one image or point.
        num_outputs: classes, or targets of a regression.
        is_classification: whether targets are classes.

    Returns:
        support_x [n, *input_shape] in [0, 1), support_y [n] int64 or [n, num_outputs] in [0, 1), query_x like
        support_x; two images of each class, or ten points.
    """
    # Uniform, not normal: the latter goes through a logarithm, which processors round differently.
    generator = torch.Generator().manual_seed(key_seed("noise task"))
    n = _PER_CLASS * num_outputs if is_classification else _POINTS
    support_x, query_x = (torch.rand(n, *input_shape, generator=generator) for _ in range(2))
    if is_classification:
        return support_x, torch.arange(num_outputs).repeat_interleave(_PER_CLASS), query_x
    return support_x, torch.rand(n, num_outputs, generator=generator), query_x


@torch.no_grad()
def noise_outputs(run: TrainedRun) -> NDArray[np.float32]:
    """Return the outputs (of classes: logits) for the query inputs of the noise task after adaptation.

    The task is adapted to as tasks are in the run's final evaluation: inner steps, ways and batch norm are its own.

    Returns:
        [num_query, num_outputs].
    """
    experiment = run.experiment
    objective = experiment.scoring_objective(num_inner_steps(run.recipe))
    network, inner = objective.network, objective.inner
    support_x, support_y, query_x = (
        part.to(experiment.device)
        for part in noise_task(network.input_shape, network.num_outputs, is_classification=run.recipe.is_classification)
    )
    params = objective.start(run.meta.model)
    problem = task_problem(network, params, inner, support_x, query_x)
    fast = adapt_to(problem, support_y, params, run.meta.transform, inner).fast_weights
    outputs: NDArray[np.float32] = problem.query(fast, problem.context).cpu().numpy()
    return outputs


def write_noise_outputs(folder: Path, run: TrainedRun) -> None:
    """Write the outputs of a model on the noise task into its folder, as an array file in float32."""
    out = io.BytesIO()
    np.save(out, noise_outputs(run).astype("<f4"), allow_pickle=False)
    atomic_write(folder / NOISE_OUTPUTS, out.getvalue())
