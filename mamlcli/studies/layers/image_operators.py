"""On image tasks no best operator is known: that of appended linear layers is set beside the KFO learned without them.

Both act on the gradient G of the collapsed head, one linear map from features to outputs: layers move it by
-alpha sum_i L_i G R_i to first order, a KFO on the one-layer head by -alpha L G R (`operators`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mamlcli.common.commands import command
from mamlcli.common.errors import RunError
from mamlcli.engine.evaluation import Array
from mamlcli.engine.linear_stack import head_layer_names
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.engine.transforms import KFO, Identity, Selected
from mamlcli.recipe.changes import changed_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.layers.operators import MAX_OPERATOR_SIZE, layer_factors
from mamlcli.studies.records import kept_record
from mamlcli.training.trained import open_trained

HEAD_OPERATOR = "head_operator.json"


@dataclass(frozen=True)
class HeadOperator:
    """A head operator is the matrix T by which one small inner step moves a run's collapsed head, dE = -alpha T G.

    T = sum_j L_j (x) R_j^T acts on G row by row, [num_outputs, d]; d is the number of features, plus one for the bias.
    Only its shape counts here, not its size: alpha is not part of it, and all numbers are free of its scale.

    Attributes:
        name: of the value, as in "1 linear layer" or "kfo".
        seed: of the run.
        terms: (L_j [num_outputs, num_outputs], R_j [d, d]) float64.
    """

    name: str
    seed: int
    terms: tuple[tuple[Array, Array], ...]

    @cached_property
    def matrix(self) -> Array:
        """T, [num_outputs * d, num_outputs * d]."""
        return np.asarray(sum(np.kron(left, right.T) for left, right in self.terms), dtype=np.float64)

    @cached_property
    def spectrum(self) -> Array:
        """The singular values of T, largest first, scaled to a mean of one."""
        values = np.linalg.svd(self.matrix, compute_uv=False)
        return np.asarray(values / values.mean(), dtype=np.float64)

    @property
    def distance_to_identity(self) -> float:
        """min_c |c T - I| / |I| in Frobenius norm, in [0, 1]: sqrt(1 - tr(T)^2 / (n |T|^2)), 0 for plain gradients."""
        size = len(self.matrix)
        share = np.trace(self.matrix) ** 2 / (size * np.square(self.matrix).sum())
        return math.sqrt(max(0.0, 1.0 - float(share)))

    @property
    def effective_rank(self) -> float:
        """The number of directions in which it moves the head, (sum s)^2 / sum s^2, at most n."""
        return float(self.spectrum.sum() ** 2 / np.square(self.spectrum).sum())

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HeadOperator:
        """Return the operator in a JSON object."""
        terms = tuple((_matrix(term["left"]), _matrix(term["right"])) for term in value["terms"])
        return cls(value["name"], value["seed"], terms)

    def to_json(self) -> dict[str, object]:
        """Return the operator and its numbers as head_operator.json holds them."""
        return {
            "name": self.name,
            "seed": self.seed,
            "distance_to_identity": self.distance_to_identity,
            "effective_rank": self.effective_rank,
            "spectrum": self.spectrum.tolist(),
            "terms": [{"left": left.tolist(), "right": right.tolist()} for left, right in self.terms],
        }


@dataclass(frozen=True)
class OperatorSimilarity:
    """An operator similarity says how alike the operators of two runs of one size are; one is the same up to scale.

    Features of two runs are two bases, so the matrices may differ where the operators do the same; spectra do not
    depend on the basis.

    Attributes:
        cosine: <A, B> / (|A| |B|) of the matrices as they are, each in the basis of its own features, in [-1, 1].
        cosine_of_spectra: of the sorted singular values, the largest that any two changes of basis can make of
            `cosine` (von Neumann's trace inequality).
        cosine_with_identity: of the second's spectrum with a flat one: what plain gradients would reach.
    """

    cosine: float
    cosine_of_spectra: float
    cosine_with_identity: float


def _matrix(rows: object) -> Array:
    return np.asarray(rows, dtype=np.float64)


def compare(stack: HeadOperator, kfo: HeadOperator) -> OperatorSimilarity:
    """Compare the operator of a run with linear layers with that of a run without, by learned KFO.

    Args:
        stack, kfo: of heads of one size.
    """
    a, b = stack.matrix, kfo.matrix
    return OperatorSimilarity(
        _cosine(a, b), _cosine(stack.spectrum, kfo.spectrum), _cosine(kfo.spectrum, np.ones_like(kfo.spectrum))
    )


def _cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def head_operator(run: RunDirectory) -> HeadOperator | None:
    """Return the operator on a run's collapsed head; kept with the run in head_operator.json.

    A file that cannot be read is written again.

    None where the head is larger than `MAX_OPERATOR_SIZE` entries.

    Raises:
        RunError: no checkpoint, or both linear layers and a transform, or a transform that is not linear KFO.
    """
    if (kept := kept_record(run.path / HEAD_OPERATOR, HeadOperator.from_json)) is not None:
        return kept
    # On the CPU, so that runs of another machine's device can be read here.
    trained = open_trained(run, changed_recipe(run.recipe, {"execution.device": "cpu"}, run.label))
    objective, meta = trained.experiment.objective().with_learned_head(trained.meta)
    model, network = run.recipe.model, objective.network
    (weight, bias), *others = head_layer_names(network)
    num_features = meta.model[weight].shape[1] + (bias is not None)
    if num_features * network.num_outputs > MAX_OPERATOR_SIZE:
        return None
    if isinstance(objective.inner.transform, Identity):
        factors = layer_factors(network, meta.model, objective.inner.adapted)
        terms = tuple((factor.left, factor.right) for factor in factors)
        name = f"{model.linear_layers} linear layer{'s' if model.linear_layers != 1 else ''}"
    else:
        if others:
            raise _no_operator(run, "both appended linear layers and a gradient transform")
        terms, name = _kfo_terms(run, objective, meta), run.recipe.inner.transform.name
    found = HeadOperator(name, run.recipe.seed, terms)
    run.write_json(HEAD_OPERATOR, found.to_json())
    return found


def _no_operator(run: RunDirectory, got: str) -> RunError:
    return RunError(
        run.label,
        expected="a run with appended linear layers and no transform, or with linear KFO and no such layers",
        got=got,
        next_step=f"See what is there: {command('layers', run.label)}",
    )


def _kfo_terms(run: RunDirectory, objective: MetaObjective, meta: MetaParams) -> tuple[tuple[Array, Array], ...]:
    """Return the factors of weight and bias of a head that is one layer, each padded with zeros to the whole head.

    A parameter that no KFO stands before moves as its gradient says, with factors I.
    """
    chosen, names = objective.inner.transform, objective.inner.adapted
    transform, transformed = (chosen.transform, chosen.names) if isinstance(chosen, Selected) else (chosen, names)
    if not isinstance(transform, KFO):
        raise _no_operator(run, f"inner.transform.name={run.recipe.inner.transform.name}")
    [(weight, bias)] = head_layer_names(objective.network)
    num_outputs, num_features = meta.model[weight].shape
    size = num_features + (bias is not None)
    xi = {name: value.detach().cpu().double() for name, value in meta.transform.items()}
    terms = []
    for name, block in ((weight, slice(0, num_features)), (bias, slice(num_features, size))):
        if name is None or name not in names:
            continue
        width = block.stop - block.start
        left, right = torch.eye(num_outputs, dtype=torch.float64), torch.eye(width, dtype=torch.float64)
        if name in transformed:
            left, right = transform.factors(xi, name)
        terms.append((left.numpy(), _padded(right, block, size)))
    return tuple(terms)


def _padded(right: Tensor, block: slice, size: int) -> Array:
    padded = np.zeros((size, size))
    padded[block, block] = right.numpy()
    return padded
