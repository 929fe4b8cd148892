"""What the layers of a linear stack do to each other's gradients: operators, spectra, distance to the best one.

With E = W_L ... W_1 the map of the collapsed head and G = dL/dE, the gradient of W_i is P_i^T G Q_i^T, with
P_i = W_L ... W_{i+1} the layers above and Q_i = W_{i-1} ... W_1 those below. Where layers have biases everything is
augmented: features [x; 1], E = [E, c], W_i = [[W_i, b_i], [0, 1]] in the products Q_i, and nothing else changes.
All here is computed in float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad, vmap

from mamlcli.adaptation import InnerLoop
from mamlcli.analysis import adapted_params, least_squares, map_tasks
from mamlcli.estimators import MetaObjective, MetaParams, example_loss
from mamlcli.execution import Execution
from mamlcli.linear_stack import collapsed_network, collapsed_params, head_layer_names
from mamlcli.models import Network, Params, apply_network
from mamlcli.tasks.base import Episode
from mamlcli.tasks.closed_forms import (
    best_shallow_inner_lr,
    optimal_preconditioner,
    preconditioned_loss_one_step,
)
from mamlcli.tasks.synthetic import LinearRegressionTasks
from mamlcli.transforms import Identity, is_linear

Array = NDArray[np.float64]

# The full operator has the square of this many entries, and its spectrum takes the cube in time.
MAX_OPERATOR_SIZE = 1024
# Points per unknown below which the fitted operator would be mostly chance.
MIN_TASKS_PER_UNKNOWN = 2


@dataclass(frozen=True)
class LayerFactors:
    """The layers above and below one layer of a stack, as what they do to its gradient.

    Attributes:
        layer: its name, `head.<index>`.
        left: L_i = P_i P_i^T, [num_outputs, num_outputs].
        right: R_i = Q_i^T Q_i, [d, d]; d is num_features, plus one where the stack has biases.
        share: of this layer in the movement, tr(L_i) tr(R_i) over the sum of these products over all layers.
    """

    layer: str
    left: Array
    right: Array
    share: float

    @property
    def left_spectrum(self) -> Array:
        """Return the eigenvalues of L_i, largest first."""
        return _eigenvalues(self.left)

    @property
    def right_spectrum(self) -> Array:
        """Return the eigenvalues of R_i, largest first."""
        return _eigenvalues(self.right)


def _eigenvalues(gram: Array) -> Array:
    """Return the eigenvalues of a positive semi-definite matrix, largest first; rounding makes none negative."""
    return np.clip(np.linalg.eigvalsh(gram)[::-1], 0.0, None)


def has_operator(objective: MetaObjective) -> bool:
    """Return whether anything stands between the head's gradient and its movement: layers or a transform."""
    return len(objective.network.head) > 1 or not isinstance(objective.inner.transform, Identity)


def has_linear_updates(objective: MetaObjective) -> bool:
    """Return whether inner updates are linear in the gradients, so that a matrix can say all of an update."""
    return is_linear(objective.inner.transform)


def layer_factors(network: Network, params: Mapping[str, Tensor], adapted: Iterable[str]) -> list[LayerFactors]:
    """Return, for each layer of the head that adapts, the operator that the other layers apply to its gradient.

    Moving W_i alone by -alpha dL/dW_i moves the collapsed map E by exactly -alpha L_i G R_i, L_i = P_i P_i^T,
    R_i = Q_i^T Q_i: linear KFO with positive semi-definite factors, on a one-layer model. Moving all layers moves
    it by the sum of these, -alpha sum_i L_i G R_i + O(alpha^2). Gradient transforms are not part of the factors.

    Args:
        network: whose head is the stack.
        params: its parameters, by name.
        adapted: names of the parameters that move. Where only one of weight and bias moves, R_i = Q_i^T D Q_i
            with D the projection on the inputs of that part.

    Source: Arora, Cohen, Hazan 2018, arXiv 1802.06509, theorem 1; Arnold et al. 2021, arXiv 1910.13603, for the
        reading as a meta-optimizer's Kronecker factors.
    Differs from the source: at any weights, where the first assumes balanced ones and gradient flow; biases are
        our addition.
    """
    moving = set(adapted)
    found = []
    for layer in _stack(network, params):
        mask = layer.mask(moving)
        if mask.any():
            right = layer.below.T @ (mask.unsqueeze(-1) * layer.below)
            found.append((layer.name, layer.above @ layer.above.T, right))
    sizes = [float(torch.trace(left) * torch.trace(right)) for _, left, right in found]
    total = sum(sizes) or float("nan")  # a stack at zero moves nothing, and no layer has a share in that
    return [
        LayerFactors(name, left.numpy(), right.numpy(), size / total)
        for (name, left, right), size in zip(found, sizes, strict=True)
    ]


def movement_operator(network: Network, meta: MetaParams, inner: InnerLoop) -> Array | None:
    """Return the matrix T by which one small inner step moves the collapsed head: vec dE = -alpha T vec G.

    T vec G = vec sum_i P_i U(P_i^T G Q_i^T) Q_i over the layers that adapt, exact to first order in alpha, with U
    the gradient transform at its meta-parameters. Without a transform T = sum_i L_i (x) R_i, symmetric and
    positive semi-definite. vec goes row by row; E is [num_outputs, num_features], or with biases
    [num_outputs, num_features + 1], the bias last.

    Returns:
        [n, n] float64, n the entries of E; None where there is no such matrix (kfo-mlp is not linear) or it would
        be larger than `MAX_OPERATOR_SIZE`.

    Source: as `layer_factors`, whose terms are summed; with a transform, ours.
    """
    stack = _stack(network, meta.model)
    shape = (stack[-1].above.shape[0], stack[0].below.shape[1])
    size = shape[0] * shape[1]
    if not is_linear(inner.transform) or size > MAX_OPERATOR_SIZE:
        return None
    moving = set(inner.adapted)
    xi = {name: value.detach().cpu().double() for name, value in meta.transform.items()}

    def movement(direction: Tensor) -> Tensor:
        gradients: Params = {}
        for layer in stack:
            gradients |= layer.parts(layer.above.T @ direction.reshape(shape) @ layer.below.T)
        gradients = {name: value for name, value in gradients.items() if name in moving}
        updates = inner.transform.apply(xi, gradients)
        return torch.stack([layer.above @ layer.joined(updates) @ layer.below for layer in stack]).sum(0).flatten()

    columns = vmap(movement)(torch.eye(size, dtype=torch.float64))
    return columns.T.numpy()


@dataclass(frozen=True)
class _StackLayer:
    """One layer of a stack in augmented form: products above, P, and below, Q; its shape and parameter names."""

    name: str
    weight: str
    bias: str | None
    above: Tensor
    below: Tensor
    size: int
    is_augmented: bool

    def mask(self, moving: set[str]) -> Tensor:
        """Return 1 for the (augmented) inputs of the layer whose parameters move, else 0."""
        mask = torch.full((self.below.shape[0],), float(self.weight in moving), dtype=torch.float64)
        if self.is_augmented:
            mask[-1] = float(self.bias in moving)
        return mask

    def parts(self, joint: Tensor) -> Params:
        """Split a gradient [W, b] into weight and bias."""
        if not self.is_augmented:
            return {self.weight: joint}
        weight: Params = {self.weight: joint[:, :-1]}
        return weight if self.bias is None else {**weight, self.bias: joint[:, -1]}

    def joined(self, updates: Params) -> Tensor:
        """Return updates as one matrix [W, b]; zeros for what does not move."""
        num_inputs = self.below.shape[0] - self.is_augmented
        zeros = self.below.new_zeros
        weight = updates.get(self.weight, zeros(self.size, num_inputs))
        if not self.is_augmented:
            return weight
        bias = zeros(self.size) if self.bias is None else updates.get(self.bias, zeros(self.size))
        return torch.cat([weight, bias.unsqueeze(-1)], dim=-1)


def _stack(network: Network, params: Mapping[str, Tensor]) -> list[_StackLayer]:
    names = head_layer_names(network)
    weights = [params[weight].detach().cpu().double() for weight, _ in names]
    is_augmented = any(bias is not None for _, bias in names)
    below = [torch.eye(weights[0].shape[1] + is_augmented, dtype=torch.float64)]
    for weight, (_, bias) in zip(weights, names, strict=True):
        below.append(_augmented(weight, None if bias is None else params[bias], is_augmented) @ below[-1])
    above = [torch.eye(weights[-1].shape[0], dtype=torch.float64)]
    for weight in reversed(weights[1:]):
        above.insert(0, above[0] @ weight)
    return [
        _StackLayer(f"head.{i}", *names[i], above[i], below[i], weights[i].shape[0], is_augmented)
        for i in range(len(names))
    ]


def _augmented(weight: Tensor, bias: Tensor | None, is_augmented: bool) -> Tensor:
    """Return [[W, b], [0, 1]], or W in a stack without biases."""
    if not is_augmented:
        return weight
    column = weight.new_zeros(weight.shape[0]) if bias is None else bias.detach().cpu().double()
    last = torch.zeros(1, weight.shape[1] + 1, dtype=torch.float64)
    last[0, -1] = 1.0
    return torch.cat([torch.cat([weight, column.unsqueeze(-1)], dim=1), last])


# Linear regression: the best operator is known -------------------------------------------------------------


@dataclass(frozen=True)
class OperatorComparison:
    """An operator D on the gradient of a linear regression task beside the best one, D*.

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


@dataclass(frozen=True)
class OptimumReport:
    """The learned operators of a linear network on linear regression tasks, and the best one.

    Attributes:
        optimal: D*, at distance 0; its loss is the least of any D.
        plain: D = alpha I at the alpha of least loss: one layer and no transform can do no better in one step.
        one_step: D of the first inner step at theta, alpha T by formula; None where T is not known.
        all_steps: D of all K inner steps together, fitted over tasks; None with too few tasks.
        all_steps_explained: share of the movement of E over tasks that this D explains.
    """

    optimal: OperatorComparison
    plain: OperatorComparison
    one_step: OperatorComparison | None
    all_steps: OperatorComparison | None
    all_steps_explained: float | None


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

    pairs = torch.from_numpy(map_tasks(movement, meta, episodes, execution))
    gradients, moved = pairs[:, 0], pairs[:, 1]
    if len(pairs) < MIN_TASKS_PER_UNKNOWN * gradients.shape[1]:
        return None
    dtype = next(iter(meta.model.values())).dtype
    solution, _ = least_squares(gradients, -moved, dtype)
    residual = gradients @ solution + moved
    return solution.T, 1.0 - float(residual.square().sum() / moved.square().sum())
