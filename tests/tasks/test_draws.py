"""A batch is drawn from the tasks' own generators alone, in order, and is the same in any batch."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mamlcli.tasks.draws import between, draw, empty, episode_of, in_float64, linear_outputs
from tests.helpers.numerics import DOUBLE


def generators(num_tasks, *, first=0):
    return [torch.Generator().manual_seed(seed) for seed in range(first, first + num_tasks)]


def test_parts_of_a_task_are_drawn_in_their_order_from_its_generator():
    normal, uniform = empty(3, 4), empty(3, 2, 5)
    draw(generators(3), [(normal, "normal"), (uniform, "uniform")])
    for task, generator in enumerate(generators(3)):
        assert torch.equal(normal[task], torch.randn(4, generator=generator, dtype=DOUBLE))
        assert torch.equal(uniform[task], torch.rand(2, 5, generator=generator, dtype=DOUBLE))


def test_as_many_generators_as_tasks_are_needed():
    with pytest.raises(ValueError, match="zip"):
        draw(generators(2), [(empty(3, 4), "normal")])


@pytest.mark.parametrize(("num_points", "dimension"), [(1, 1), (10, 10), (33, 20), (17, 5)])
def test_linear_outputs_have_the_same_bits_alone_and_in_a_batch(num_points, dimension):
    weights, x = empty(6, dimension), empty(6, num_points, dimension)
    draw(generators(6), [(weights, "normal"), (x, "normal")])
    outputs = linear_outputs(weights, x)
    torch.testing.assert_close(outputs, torch.einsum("tpd,td->tp", x, weights))
    for task in range(6):
        alone = linear_outputs(weights[task : task + 1].clone(), x[task : task + 1].clone())
        assert torch.equal(alone[0], outputs[task])


def test_fraction_of_a_range_goes_from_its_least_to_its_greatest_value():
    assert between(-5.0, 3.0, torch.tensor([0.0, 0.25, 1.0])).tolist() == [-5.0, -3.0, 3.0]


def test_targets_are_cast_and_labels_stay_integers():
    inputs, targets, labels = torch.ones(1, 2, 3, dtype=DOUBLE), torch.ones(1, 2, dtype=DOUBLE), torch.ones(1, 2).long()
    device = torch.device("cpu")
    episode = episode_of([(inputs, labels), (inputs, targets)], {}, dtype=torch.float32, device=device)
    assert [part.dtype for part in episode.data()] == [torch.float32, torch.int64, torch.float32, torch.float32]


def test_float64_is_made_on_the_cpu_where_the_device_has_none():
    with FakeTensorMode():  # tensors of a device that need not be here
        on_mac = in_float64(torch.zeros(3, device="mps"))
        assert (on_mac.device.type, on_mac.dtype) == ("cpu", torch.float64)
        assert in_float64(torch.zeros(3, device="cuda")).device.type == "cuda"
    assert torch.equal(in_float64(torch.tensor([True, False])), torch.tensor([1.0, 0.0], dtype=torch.float64))
