"""Small states of training, and gradients that need no network."""

import torch

from mamlcli.common.errors import NonFiniteError
from mamlcli.engine.execution import MetaGradient
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.outer_loop import train
from tests.helpers.numerics import DOUBLE, normal


def start():
    """Return meta-parameters of a model and a transform."""
    return MetaParams(
        {"w": normal(2, 3, key="w"), "b": normal(2, key="b")}, {"w/scale": torch.ones(2, 3, dtype=DOUBLE)}
    )


def noisy_gradient(meta, iteration):
    """Return a gradient that depends on the meta-parameters and on the iteration."""
    gradients = {
        name: value.sin() + 0.1 * normal(*value.shape, key=f"{name} {iteration}").to(value.dtype)
        for name, value in meta.flat().items()
    }
    losses = torch.stack([value.square().sum() for value in meta.flat().values()])
    return MetaGradient(gradients, losses, losses / 100)


def train_one(state, gradient, validate=None, *, outer):
    """Yield the records of one state; its error is raised."""

    def gradients(indices, metas, iteration):
        assert list(indices) == [0]
        return [gradient(meta, iteration) for meta in metas]

    for _, record in train({0: state}, {0: outer}, gradients, lambda _, metas: [validate(meta) for meta in metas]):
        if isinstance(record, NonFiniteError):
            raise record
        yield record


def run(state, outer, validate=None, gradient=noisy_gradient):
    return list(train_one(state, gradient, validate, outer=outer))


def copies(tensors):
    return {name: value.clone() for name, value in tensors.items()}
