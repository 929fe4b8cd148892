"""Tensors that a program hands over: taken in the run's precision, or refused with what was expected."""

from __future__ import annotations

import pytest
import torch

from mamlcli.common.errors import MamlError
from mamlcli.deploy.tensors import adapted_network, checked_inputs, checked_support, class_probabilities, network_with
from mamlcli.recipe.files import load_recipe
from mamlcli.training.experiment import build_without_data


def experiment_of(recipe, input_shape, num_outputs, *keys):
    _, loaded = load_recipe(recipe, ("execution.device=cpu", "execution.threads=1", *keys))
    return build_without_data(loaded, input_shape=input_shape, num_outputs=num_outputs)


@pytest.fixture(scope="module")
def images():
    """An experiment of three classes of images of two channels."""
    return experiment_of("folder", (2, 8, 8), 3, "tasks.path=x", "tasks.ways=3", "execution.dtype=float64")


@pytest.fixture(scope="module")
def regression():
    return experiment_of("sinusoid", (1,), 1)


def test_uint8_images_are_scaled_to_fractions_in_the_runs_precision(images):
    inputs = checked_inputs(images, torch.full((1, 2, 8, 8), 51, dtype=torch.uint8), "x")
    assert inputs.dtype == torch.float64
    torch.testing.assert_close(inputs, torch.full_like(inputs, 0.2))


def test_floats_are_taken_as_they_are(images):
    values = torch.tensor([-1.0, 300.0]).reshape(1, 2, 1, 1).expand(1, 2, 8, 8)
    assert torch.equal(checked_inputs(images, values, "x"), values.double())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(4, 8, 8), r"x: expected a tensor \[n, 2, 8, 8\], got torch.float32 \[4, 8, 8\]"),
        (torch.zeros(0, 2, 8, 8), r"got torch.float32 \[0, 2, 8, 8\]"),
        ([1.0], "got 'list'"),
        (
            torch.zeros(4, 2, 8, 8, dtype=torch.int64),
            "expected float, or uint8 for images of 0 to 255, got torch.int64",
        ),
    ],
    ids=["another shape", "empty", "no tensor", "integers"],
)
def test_inputs_that_the_network_cannot_take_are_refused(images, x, message):
    with pytest.raises(MamlError, match=message):
        checked_inputs(images, x, "x")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 3]), "expected classes from 0 to 2, the run's outputs, got 0 to 3"),
        (torch.tensor([-1, 0]), "got -1 to 0"),
        (torch.tensor([0]), r"expected int64 classes \[2\], got torch.int64 \[1\]"),
        (torch.tensor([0.0, 1.0]), "got torch.float32"),
    ],
    ids=["above", "below", "too few", "floats"],
)
def test_labels_that_are_no_output_are_refused(images, y, message):
    with pytest.raises(MamlError, match=message):
        checked_support(images, torch.zeros(2, 2, 8, 8), y)


def test_targets_of_regression_become_a_column(regression):
    x = torch.zeros(3, 1)
    for y in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0], [2.0], [3.0]])):
        inputs, targets = checked_support(regression, x, y.double())
        assert targets.tolist() == [[1.0], [2.0], [3.0]]
        assert targets.dtype == inputs.dtype == torch.float32


@pytest.mark.parametrize("y", [torch.zeros(2), torch.zeros(3, dtype=torch.int64), torch.zeros(3, 1, 1)], ids=str)
def test_targets_of_another_shape_or_type_are_refused(regression, y):
    with pytest.raises(MamlError, match=r"support_y: expected float targets \[3\] or \[3, 1\]"):
        checked_support(regression, torch.zeros(3, 1), y)


def test_network_with_parameters_shares_nothing_with_them(images):
    params = images.initial_meta().model
    before = {name: value.clone() for name, value in params.items()}
    module = network_with(images.network, params)
    assert not module.training
    with torch.no_grad():
        for name, value in module.named_parameters():
            assert torch.equal(value, before[name])
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in params.items())
    assert not any(torch.equal(value, before[name] + 1) for name, value in images.network.named_parameters())


@pytest.mark.parametrize("head", ["zero", "shared"])
def test_outputs_that_start_the_same_take_labels_of_any_number_of_classes(head):
    keys = ("tasks.path=x", "tasks.ways=3", "execution.dtype=float64", f"inner.head={head}")
    experiment = experiment_of("folder", (2, 8, 8), 3, *keys)
    x = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    meta = experiment.initial_meta()
    network = adapted_network(experiment, meta, x, torch.arange(6), num_steps=2)
    assert network(x.double()).shape == (6, 6)
    with pytest.raises(MamlError, match=r"support_y: expected classes from 0, got -1 to 0"):
        checked_support(experiment, x[:2], torch.tensor([-1, 0]))
    support = (x, torch.arange(6))
    assert class_probabilities(experiment, meta, support, x, num_steps=2, is_joint=False).shape == (6, 6)
