"""Small recipes for runs trained together, and what it means that two runs are equal up to rounding."""

import pytest
import torch

from mamlcli.recipe.files import load_recipe
from tests.helpers.running import results

SMALL = (
    "tasks.shots=6",
    "tasks.queries=5",
    "outer.iterations=8",
    "outer.tasks=3",
    "outer.checkpoint_every=3",
    "outer.lr=0.01",
    "validation.every=3",
    "validation.tasks=4",
    "evaluation.tasks=5",
    "inner.steps=2",
    "evaluation.steps=3",
    "execution.dtype=float64",
    "execution.threads=1",
    "execution.device=cpu",
)


# Only the order of sums differs: a few float64 roundings (1e-16) in each of eight meta-iterations.
TOLERANCE = 1e-10


def small_recipe(name="sinusoid", *overrides):
    _, recipe = load_recipe(name, (*SMALL, *(["model.width=5"] if name == "sinusoid" else []), *overrides))
    return recipe


def numbers_of(value):
    """Return all numbers in nested lists and dicts, and the rest of it, in order."""
    if isinstance(value, dict):
        value = [part for key, inner in value.items() for part in (key, inner)]
    if isinstance(value, list):
        pairs = [numbers_of(inner) for inner in value]
        return [n for numbers, _ in pairs for n in numbers], [r for _, rest in pairs for r in rest]
    if isinstance(value, float):
        return [value], []
    return [], [value]


def assert_equal_up_to_rounding(first, second):
    """Require two finished runs to have computed the same."""
    (tensors, metrics, evaluation), (other_tensors, other_metrics, other_evaluation) = (
        results(first),
        results(second),
    )
    assert list(tensors) == list(other_tensors)
    for name, value in tensors.items():
        assert torch.allclose(value, other_tensors[name], rtol=TOLERANCE, atol=1e-13), name
    for one, other in ((metrics, other_metrics), (evaluation, other_evaluation)):
        (numbers, rest), (other_numbers, other_rest) = numbers_of(one), numbers_of(other)
        assert rest == other_rest
        assert numbers == pytest.approx(other_numbers, rel=TOLERANCE, abs=1e-13)
