"""The layers of a linear stack transform each other's gradients; these operators and their spectra are computed here.

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
from torch.func import vmap

from mamlcli.engine.inner_loop import InnerLoop
from mamlcli.engine.linear_stack import head_layer_names
from mamlcli.engine.networks import Network, Params
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.engine.transforms import Identity, is_linear

Array = NDArray[np.float64]

# The full operator has the square of this many entries, and its spectrum takes the cube in time.
MAX_OPERATOR_SIZE = 1024


@dataclass(frozen=True)
class LayerFactors:
    """Layer factors are what the layers above and below one layer of a stack do to its gradient.

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

    def to_json(self) -> dict[str, object]:
        """Return the spectra as `mamlcli layers --json` has them."""
        return {
            "layer": self.layer,
            "share": self.share,
            "left_spectrum": self.left_spectrum.tolist(),
            "right_spectrum": self.right_spectrum.tolist(),
        }


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
    factors = []
    for layer in _stack(network, params):
        mask = layer.mask(moving)
        if mask.any():
            right = layer.below.T @ (mask.unsqueeze(-1) * layer.below)
            factors.append((layer.name, layer.above @ layer.above.T, right))
    sizes = [float(torch.trace(left) * torch.trace(right)) for _, left, right in factors]
    total = sum(sizes) or float("nan")  # a stack at zero moves nothing, and no layer has a share in that
    return [
        LayerFactors(name, left.numpy(), right.numpy(), size / total)
        for (name, left, right), size in zip(factors, sizes, strict=True)
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
