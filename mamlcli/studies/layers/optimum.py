"""On linear regression the best operator is known; a network's operators are compared with it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from mamlcli.engine.evaluation import Array, adapted_params, map_tasks
from mamlcli.engine.execution import Execution
from mamlcli.engine.linear_stack import collapsed_network, collapsed_params
from mamlcli.engine.networks import Params, apply_network
from mamlcli.engine.objective import MetaObjective, MetaParams, example_loss
from mamlcli.studies.layers.movement import least_squares
from mamlcli.tasks.closed_forms import (
    best_shallow_inner_lr,
    optimal_preconditioner,
    preconditioned_loss_one_step,
)
from mamlcli.tasks.episodes import Episode
from mamlcli.tasks.synthetic import LinearRegressionTasks

# Points per unknown below which the fitted operator would be mostly chance.
MIN_TASKS_PER_UNKNOWN = 2


@dataclass(frozen=True)
class OperatorComparison:
    """An operator comparison sets an operator D on the gradient of linear regression tasks beside the best, D*.

    Distances are Frobenius norms in coordinates in which the inputs are white, |D| = |Sx^1/2 D Sx^1/2|_F: there
    every direction counts by what the inputs have of it. In plain coordinates the directions with the least input,
    where D* is largest and matters least to the loss, would decide alone.

    Attributes:
        operator: D, [dimension, dimension]; the inner learning rate is part of it.
        distance: |D - D*| / |D*|.
        scale: c, the factor that brings D closest to D*: <D, D*> / <D, D>.
        distance_scaled: |c D - D*| / |D*|: what remains of the distance when only the shape counts, in [0, 1].
        loss: the expected query loss after one step with D from w = 0, in closed form.
    """

    operator: Array
    distance: float
    scale: float
    distance_scaled: float
    loss: float

    @property
    def spectrum(self) -> Array:
        """Return the singular values of D, largest first; NaN where D is not finite."""
        if not np.isfinite(self.operator).all():
            return np.full(len(self.operator), np.nan)
        return np.asarray(np.linalg.svd(self.operator, compute_uv=False), dtype=np.float64)

    def to_json(self) -> dict[str, object]:
        """Return the comparison as `mamlcli layers --json` has it."""
        return {
            "distance": self.distance,
            "scale": self.scale,
            "distance_scaled": self.distance_scaled,
            "loss_as_one_step": self.loss,
            "spectrum": self.spectrum.tolist(),
        }


@dataclass(frozen=True)
class OptimumReport:
    """An optimum report holds the operators of a linear network on linear regression tasks, and the best one.

    Attributes:
        optimal: D*, at distance 0; its loss is the least of any D.
        plain: D = alpha I at the alpha of least loss: one layer and no transform can do no better in one step.
        one_step: D of the first inner step at theta, alpha T by formula; None where T is not known.
        all_steps: D of all K inner steps together, fitted over tasks; None with too few, NaN where one diverged.
        all_steps_explained: share of the movement of E over tasks that this D explains.
    """

    optimal: OperatorComparison
    plain: OperatorComparison
    one_step: OperatorComparison | None
    all_steps: OperatorComparison | None
    all_steps_explained: float | None

    @property
    def comparisons(self) -> dict[str, OperatorComparison | None]:
        """Return the operators by name."""
        return {
            "plain": self.plain,
            "one_step": self.one_step,
            "all_steps": self.all_steps,
            "optimal": self.optimal,
        }

    def to_json(self) -> dict[str, object]:
        """Return the comparisons as `mamlcli layers --json` has them."""
        rows = {name: None if item is None else item.to_json() for name, item in self.comparisons.items()}
        return {**rows, "all_steps_explained": self.all_steps_explained}


def compare_with_optimum(
    objective: MetaObjective,
    meta: MetaParams,
    distribution: LinearRegressionTasks,
    episodes: Iterable[Episode],
    execution: Execution,
    *,
    total: Array | None,
) -> OptimumReport:
    """Compare what a linear network does to gradients with the best preconditioner of these tasks.

    D* minimises the expected query loss after one step w = -D g from w = 0 (`optimal_preconditioner`). Beside it:
    one_step = alpha T of `movement_operator`, and all_steps = argmin_D sum over tasks |dE + D g|^2, with g the
    collapsed model's support gradient at theta and dE how far all K steps move the collapsed model. all_steps is
    comparable whatever K is: D* is the regression of the task's weights t on -g, so an adaptation that reaches the
    posterior mean E[t | support set] has all_steps = D* up to sampling, by the tower rule. Both presume that the
    collapsed model starts near w = 0, the best start.

    With biases only the block of the weights is compared: the tasks have no intercept, and their best update of it,
    and from it, is zero.

    Args:
        objective: a network without non-linearity, one output.
        meta: its meta-parameters.
        distribution: of the tasks; its covariances, shots and noise give D*.
        episodes: tasks to fit all_steps on.
        execution: how they are run.
        total: T of `movement_operator`.

    Source: `closed_forms` for D*; the comparison is our reading of the claim of Arnold et al. 2021, arXiv
        1910.13603, that upper layers learn to transform gradients as a meta-optimizer would.
    """
    input_cov, task_cov = distribution.input_covariance(), distribution.task_covariance()
    shots, noise = distribution.shots, distribution.noise
    optimal = optimal_preconditioner(input_cov, task_cov, shots=shots, noise=noise)
    best_lr = best_shallow_inner_lr(input_cov, task_cov, shots=shots, noise=noise)

    def compared(matrix: Tensor) -> OperatorComparison:
        block = matrix[: len(optimal), : len(optimal)]
        loss = preconditioned_loss_one_step(block, input_cov, task_cov, shots=shots, noise=noise, query_noise=noise)
        distances = operator_distance(block, optimal, input_cov)
        return OperatorComparison(block.numpy(), *distances, loss=float(loss))

    fitted = _fitted_operator(objective, meta, episodes, execution)
    return OptimumReport(
        optimal=compared(optimal),
        plain=compared(best_lr * torch.eye(len(optimal), dtype=torch.float64)),
        one_step=None if total is None else compared(objective.inner.lr * torch.from_numpy(total)),
        all_steps=None if fitted is None else compared(fitted[0]),
        all_steps_explained=None if fitted is None else fitted[1],
    )


def operator_distance(operator: Tensor, optimal: Tensor, input_cov: Tensor) -> tuple[float, float, float]:
    """Return (distance, scale, distance_scaled) as in `OperatorComparison`; an operator of zeros has scale 0.

    Args:
        operator, optimal, input_cov: D, D* and Sx, each [dimension, dimension] float64.
    """
    values, vectors = torch.linalg.eigh(input_cov)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    white, goal = root @ operator @ root, root @ optimal @ root
    square = float(white.square().sum())
    scale = float((white * goal).sum()) / square if square > 0 else 0.0
    size = float(goal.norm())
    return float((white - goal).norm()) / size, scale, float((scale * white - goal).norm()) / size


def _fitted_operator(
    objective: MetaObjective, meta: MetaParams, episodes: Iterable[Episode], execution: Execution
) -> tuple[Tensor, float] | None:
    """Return D with dE = -D g fitted over tasks, and the share of dE it explains; None with too few tasks."""
    network, collapsed = objective.network, collapsed_network(objective.network)

    def movement(model: Params, xi: Params, *data: Tensor) -> Tensor:
        start = collapsed_params(network, model)
        end = collapsed_params(network, adapted_params(objective, model, xi, *data[:3]))
        gradient = grad(lambda p: example_loss(apply_network(collapsed, p, data[0]), data[1]))(start)
        moved = {name: end[name] - start[name] for name in start}
        return torch.stack([torch.cat([part[n].flatten() for n in start]) for part in (gradient, moved)])

    # A tensor of its own memory: the last bits of products depend on how memory is aligned, and arrays vary in that.
    pairs = torch.from_numpy(map_tasks(movement, meta, episodes, execution)).clone()
    gradients, moved = pairs[:, 0], pairs[:, 1]
    if len(pairs) < MIN_TASKS_PER_UNKNOWN * gradients.shape[1]:
        return None
    if not bool(pairs.isfinite().all()):  # a task diverged
        num_moved, num_inputs = moved.shape[1], gradients.shape[1]
        return torch.full((num_moved, num_inputs), math.nan, dtype=torch.float64), math.nan
    dtype = next(iter(meta.model.values())).dtype
    solution, _ = least_squares(gradients, -moved, dtype)
    residual = gradients @ solution + moved
    return solution.T, 1.0 - float(residual.square().sum() / moved.square().sum())
