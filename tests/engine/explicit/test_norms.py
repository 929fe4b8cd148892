"""Norms over many tasks: values, first and second derivatives are torch's."""

import pytest
import torch
from torch.nn import functional

from mamlcli.engine.explicit.norms import TaskBatchNorm, TaskGroupNorm
from mamlcli.engine.networks import NORM_EPSILON
from tests.helpers.numerics import normal
from tests.helpers.task_layers import assert_layer_computes

NAMES = ("norm.weight", "norm.bias")
NUM_CHANNELS = 4


def images_and_parameters():
    """Return images of two tasks with a mean and a scale of their own for each channel, weights and biases."""
    x = 1.5 + normal(2, 3, 4, 5, NUM_CHANNELS, key="x") * torch.tensor([0.5, 1.0, 2.0, 3.0])
    return x, (1 + 0.3 * normal(2, NUM_CHANNELS, key="weight"), normal(2, NUM_CHANNELS, key="bias"))


def test_batch_norm_and_its_derivatives_are_torchs():
    def reference(p, x):
        images = x.permute(0, 3, 1, 2)
        return functional.batch_norm(images, None, None, *p, training=True, eps=NORM_EPSILON).permute(0, 2, 3, 1)

    x, parameters = images_and_parameters()
    assert_layer_computes(TaskBatchNorm(NAMES), reference, parameters, x, without_input=False)


def test_batch_norm_by_the_first_images_is_torchs_with_their_mean_and_variance():
    x, parameters = images_and_parameters()
    found, _ = TaskBatchNorm(NAMES, num_first=2).forward(parameters, x)
    for images, weight, bias, normalised in zip(x, *parameters, found, strict=True):
        channels_first = images.permute(0, 3, 1, 2)
        variance, mean = torch.var_mean(channels_first[:2], dim=(0, 2, 3), correction=0)
        expected = functional.batch_norm(channels_first, mean, variance, weight, bias, eps=NORM_EPSILON)
        torch.testing.assert_close(normalised, expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize("num_groups", [1, 2, 4])
def test_group_norm_and_its_derivatives_are_torchs(num_groups):
    def reference(p, x):
        return functional.group_norm(x.permute(0, 3, 1, 2), num_groups, *p, eps=NORM_EPSILON).permute(0, 2, 3, 1)

    x, parameters = images_and_parameters()
    assert_layer_computes(TaskGroupNorm(NAMES, num_groups), reference, parameters, x, without_input=False)


@pytest.mark.parametrize("layer", [TaskBatchNorm(NAMES), TaskGroupNorm(NAMES, 2)], ids=["batch", "group"])
def test_norm_whose_input_is_fixed_is_not_taken_for_one_that_moves(layer):
    x, parameters = images_and_parameters()
    _, saved = layer.forward(parameters, x)
    with pytest.raises(AssertionError, match="a convolution comes before"):
        layer.tangent(parameters, parameters, saved, None)
