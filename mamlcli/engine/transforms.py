"""Gradient transforms (Meta-SGD, Meta-Curvature, Meta-KFO, dense) map inner gradients to inner updates.

Each transform is a frozen dataclass with an `init` / `apply` pair: `init` makes its meta-parameters xi (identity at the
start, so that training starts as MAML), `apply` maps the gradients of one inner step to updates. A transform owns
no state. Its meta-parameters are tensors by name, `<parameter name>/<part>`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mamlcli.common.seeds import key_seed
from mamlcli.engine.networks import Params


class GradientTransform(Protocol):
    """Maps inner gradients to inner updates, with meta-parameters xi."""

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        """Return xi for the given parameters (those that adapt and are transformed)."""
        ...

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        """Return U_xi(gradients) at the inner step of an index, counted from 0; same names and shapes."""
        ...


@runtime_checkable
class AroundAnother(Protocol):
    """A transform that applies another one."""

    @property
    def transform(self) -> GradientTransform:
        """Return the other one."""
        ...


def _eye(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)


def _as_matrices(tensor: Tensor) -> Tensor:
    """View a gradient as the matrix, or the batch of matrices, that Kronecker factors act on.

    Linear weight [out, in] as is; conv weight [out, in, kh, kw] as `out` matrices [in, kh * kw]; bias and norm
    parameters [n] as [n, 1].
    """
    if tensor.ndim == 1:
        return tensor.unsqueeze(-1)
    return tensor.flatten(2) if tensor.ndim == 4 else tensor


@dataclass(frozen=True)
class Identity:
    """Leaves gradients as they are, U(g) = g: plain gradient descent in the inner loop, as in MAML."""

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        return {}

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        return dict(gradients)


@dataclass(frozen=True)
class MetaSGD:
    """Scales every entry, U(g) = s * g: one learned scale per weight, all ones at the start.

    Source: Li et al. 2017, Meta-SGD, arXiv 1707.09835, equation 3, whose alpha is `inner_lr * s` here.
    Differs from the source: alpha starts at `inner_lr` everywhere, not at random, so that training starts as MAML.
    """

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        return {f"{name}/scale": torch.ones_like(value) for name, value in params.items()}

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        return {name: xi[f"{name}/scale"] * gradient for name, gradient in gradients.items()}


@dataclass(frozen=True)
class MetaCurvature:
    """Multiplies a gradient along each of its modes by a learned matrix; identity at the start.

    Conv weight G [out, in, kh * kw]: M_out, M_in and M_f; linear weight [out, in]: M_out and M_in; bias or norm
    tensor: one scale per entry.

    Source: Park and Oliva 2019, Meta-Curvature, arXiv 1902.03356, equations 5 to 7. No known deviation.
    """

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        xi: Params = {}
        for name, value in params.items():
            if value.ndim == 1:
                xi[f"{name}/scale"] = torch.ones_like(value)
                continue
            xi[f"{name}/out"] = _eye(value.shape[0], value)
            xi[f"{name}/in"] = _eye(value.shape[1], value)
            if value.ndim == 4:
                xi[f"{name}/filter"] = _eye(value.shape[2] * value.shape[3], value)
        return xi

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        return {name: self._of_tensor(xi, name, gradient) for name, gradient in gradients.items()}

    def _of_tensor(self, xi: Mapping[str, Tensor], name: str, gradient: Tensor) -> Tensor:
        if gradient.ndim == 1:
            return xi[f"{name}/scale"] * gradient
        matrices = gradient.flatten(2) if gradient.ndim == 4 else gradient.unsqueeze(-1)
        mixed = torch.einsum("ab,bcf->acf", xi[f"{name}/out"], matrices)
        mixed = torch.einsum("cd,adf->acf", xi[f"{name}/in"], mixed)
        if gradient.ndim == 4:
            mixed = torch.einsum("fg,acg->acf", xi[f"{name}/filter"], mixed)
        return mixed.reshape(gradient.shape)


@dataclass(frozen=True)
class KFO:
    """Multiplies each tensor from both sides, U(G) = L G R: linear Meta-KFO, identity at the start, without bias.

    Tensors are seen as matrices as in `_as_matrices`; a conv weight's `out` matrices share L and R. With `psd`
    the learned tensors are factors: L = A^T A and R = B^T B, so that U is positive semi-definite.

    Source: Arnold et al. 2021, section 4 (Meta-KFO), the released linear form. No known deviation.
    """

    psd: bool = True

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        xi: Params = {}
        for name, value in params.items():
            rows, columns = _as_matrices(value).shape[-2:]
            xi[f"{name}/left"] = _eye(rows, value)
            xi[f"{name}/right"] = _eye(columns, value)
        return xi

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        updates: Params = {}
        for name, gradient in gradients.items():
            left, right = self.factors(xi, name)
            updates[name] = (left @ _as_matrices(gradient) @ right).reshape(gradient.shape)
        return updates

    def factors(self, xi: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
        """Return (L, R) of one parameter, [rows, rows] and [columns, columns]."""
        left, right = xi[f"{name}/left"], xi[f"{name}/right"]
        return (left.mT @ left, right.mT @ right) if self.psd else (left, right)


@dataclass(frozen=True)
class KFOMLP:
    """Non-linear Meta-KFO: U(G) = G + L_h relu(L_{h-1} ... relu(L_0 G R_0) ... R_{h-1}) R_h.

    `num_hidden` hidden layers of `hidden_width` rows (by default as many as G has); columns keep their number.
    The last L starts at zero, so U is the identity at the start, and gradients reach it through the layers below.

    Args:
        num_hidden: h, hidden layers.
        hidden_width: rows of the hidden matrices; None for the number of rows of G.

    Source: Arnold et al. 2021, section 4, names the non-linear form ("typically 2 hidden layers").
    Differs from the source: it states neither non-linearity, nor width, nor start; ReLU (so that U scales with
        the gradient), no bias, the residual form and the start at identity are our choice.
    """

    num_hidden: int = 2
    hidden_width: int | None = None

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        xi: Params = {}
        for name, value in params.items():
            rows, columns = _as_matrices(value).shape[-2:]
            width = rows if self.hidden_width is None else self.hidden_width
            sizes = [rows, *[width] * self.num_hidden, rows]
            for layer, (size_in, size_out) in enumerate(itertools.pairwise(sizes)):
                is_last = layer == self.num_hidden
                key = f"{name}/left{layer}"
                xi[key] = self._start(size_out, size_in, value, key_seed(seed, "transform", key), zero=is_last)
                xi[f"{name}/right{layer}"] = _eye(columns, value)
        return xi

    @staticmethod
    def _start(size_out: int, size_in: int, like: Tensor, seed: int, *, zero: bool) -> Tensor:
        if zero:
            return torch.zeros(size_out, size_in, dtype=like.dtype, device=like.device)
        if size_out == size_in:
            return _eye(size_in, like)
        bound = (6.0 / (size_in + size_out)) ** 0.5  # Xavier uniform
        generator = torch.Generator().manual_seed(seed)
        value = torch.empty(size_out, size_in, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
        return value.to(dtype=like.dtype).to(like.device)

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        updates: Params = {}
        for name, gradient in gradients.items():
            hidden = _as_matrices(gradient)
            for layer in range(self.num_hidden + 1):
                hidden = xi[f"{name}/left{layer}"] @ hidden @ xi[f"{name}/right{layer}"]
                hidden = torch.relu(hidden) if layer < self.num_hidden else hidden
            updates[name] = gradient + hidden.reshape(gradient.shape)
        return updates


@dataclass(frozen=True)
class Dense:
    """Multiplies each tensor by a full matrix, U(g) = M vec(g), identity at the start; for small models."""

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        return {f"{name}/matrix": _eye(value.numel(), value) for name, value in params.items()}

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        return {
            name: (xi[f"{name}/matrix"] @ gradient.flatten()).reshape(gradient.shape)
            for name, gradient in gradients.items()
        }


@dataclass(frozen=True)
class Selected:
    """Applies a transform to the named parameters only; the rest pass through unchanged."""

    transform: GradientTransform
    names: tuple[str, ...]

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        return self.transform.init({name: value for name, value in params.items() if name in self.names}, seed)

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        chosen = {name: value for name, value in gradients.items() if name in self.names}
        transformed = self.transform.apply(xi, chosen, step)
        return {name: transformed.get(name, value) for name, value in gradients.items()}


@dataclass(frozen=True)
class OfFirstOutputs:
    """Applies a transform made for more outputs than the network has, as if the other outputs had gradient zero.

    The result is that of the larger network whose loss depends on the first outputs alone.

    Attributes:
        transform: for the larger network.
        rows: (name, rows) of each parameter of the output layer, in the larger network.
    """

    transform: GradientTransform
    rows: tuple[tuple[str, int], ...]

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        raise NotImplementedError("the meta-parameters are those of the larger network")

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        larger = dict(gradients)
        for name, rows in self.rows:
            if name in gradients:
                value = gradients[name]
                larger[name] = torch.cat([value, value.new_zeros(rows - len(value), *value.shape[1:])])
        updates = self.transform.apply(xi, larger, step)
        return {name: updates[name][: len(value)] for name, value in gradients.items()}


def transforms_by_name(*, hidden_layers: int = 2, hidden_width: int | None = None) -> dict[str, GradientTransform]:
    """Return every gradient transform by its name in recipes, `inner.transform.name`.

    Args:
        hidden_layers: hidden layers of kfo-mlp.
        hidden_width: rows of its hidden matrices; None for the number of rows of the gradient.
    """
    return {
        "none": Identity(),
        "meta-sgd": MetaSGD(),
        "meta-curvature": MetaCurvature(),
        "kfo": KFO(),
        "kfo-mlp": KFOMLP(num_hidden=hidden_layers, hidden_width=hidden_width),
        "dense": Dense(),
    }


def is_linear(transform: GradientTransform) -> bool:
    """Return whether U(g) is linear in g, so that a matrix says all of it."""
    if isinstance(transform, AroundAnother):
        return is_linear(transform.transform)
    return not isinstance(transform, KFOMLP)


def prepared(transform: GradientTransform, xi: Mapping[str, Tensor]) -> tuple[GradientTransform, Params]:
    """Return an equal transform and its meta-parameters, for an inner loop that does not change them.

    What depends on the meta-parameters alone is computed here, once, and not at every inner step: the products
    L = A^T A and R = B^T B of KFO.
    """
    if isinstance(transform, Selected | OfFirstOutputs):
        inside, prepared_xi = prepared(transform.transform, xi)
        return replace(transform, transform=inside), prepared_xi
    if not isinstance(transform, KFO) or not transform.psd:
        return transform, dict(xi)
    return KFO(psd=False), {name: factor.mT @ factor for name, factor in xi.items()}
