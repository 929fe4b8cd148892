"""Flat vectors of a chunk are transformed as the named gradients of each task are."""

import pytest
import torch

from mamlcli.engine.explicit.flat_transform import FAST, FlatTransform, flat_scales
from mamlcli.engine.explicit.layout import Layout
from mamlcli.engine.rates import with_rates
from mamlcli.engine.transforms import Identity, MetaCurvature

LAYOUT = Layout(("a", "b"), ((3, 2), (3,)))


def normal(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def learned_xi(transform, seed=0):
    start = transform.init({"a": torch.zeros(3, 2, dtype=torch.float64), "b": torch.zeros(3, dtype=torch.float64)}, 0)
    return {name: value + 0.1 * normal(*value.shape, seed=seed + i) for i, (name, value) in enumerate(start.items())}


@pytest.mark.parametrize("num_tasks", [1, 4])
def test_each_task_is_transformed_by_names(num_tasks):
    transform, gradients = MetaCurvature(), normal(num_tasks, 9, seed=1)
    xi = learned_xi(transform)
    updates = FlatTransform(transform, LAYOUT, is_per_task=False).apply(xi, {FAST: gradients})[FAST]
    for task in range(num_tasks):
        named = transform.apply(
            xi, {name: value[0] for name, value in LAYOUT.tensors(gradients[task : task + 1]).items()}
        )
        torch.testing.assert_close(updates[task], torch.cat([named["a"].flatten(), named["b"]]))


def test_runs_trained_together_have_a_transform_each():
    transform, gradients = MetaCurvature(), normal(4, 9, seed=1)
    of_runs = [learned_xi(transform, seed) for seed in (0, 10)]
    stacked = {name: torch.stack([xi[name] for xi in of_runs]) for name in of_runs[0]}
    updates = FlatTransform(transform, LAYOUT, is_per_task=False, num_runs=2).apply(stacked, {FAST: gradients})[FAST]
    for run, xi in enumerate(of_runs):
        tasks = slice(2 * run, 2 * run + 2)
        alone = FlatTransform(transform, LAYOUT, is_per_task=False).apply(xi, {FAST: gradients[tasks]})[FAST]
        torch.testing.assert_close(updates[tasks], alone)


def test_scales_are_the_rates_of_each_entry_over_the_inner_rate():
    learned = with_rates(Identity(), "tensor-step", lr=0.5, num_steps=2)
    rates = {"a/rate": torch.tensor([0.5, 1.0]), "b/rate": torch.tensor([0.25, 2.0])}
    scales = flat_scales(learned, rates, LAYOUT)
    assert [scale.tolist() for scale in scales.values()] == [[1.0] * 6 + [0.5] * 3, [2.0] * 6 + [4.0] * 3]


def test_the_last_scale_holds_for_later_steps():
    learned = with_rates(Identity(), "step", lr=0.5, num_steps=2)
    scales = flat_scales(learned, {"*/rate": torch.tensor([0.5, 1.0])}, LAYOUT)
    transform = FlatTransform(Identity(), LAYOUT, is_per_task=False, num_scales=2)
    gradients = torch.ones(1, 9)
    assert [transform.apply(scales, {FAST: gradients}, step)[FAST][0, 0].item() for step in range(4)] == [1, 2, 2, 2]
