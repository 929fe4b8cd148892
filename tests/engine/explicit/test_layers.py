"""Layers over many tasks: values, first and second derivatives are torch's."""

import pytest
import torch
from torch.nn import functional

from mamlcli.engine.explicit.layers import (
    TaskFlatten,
    TaskGlobalMean,
    TaskLinear,
    TaskMaxPool,
    TaskReLU,
    TaskTanh,
    sum_of,
)
from tests.helpers.numerics import normal
from tests.helpers.task_layers import assert_layer_computes

# Two tasks of three images, 4 x 6 pixels of 5 channels.
IMAGES = (2, 3, 4, 6, 5)


@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_layer_and_its_derivatives_are_torchs(has_bias):
    parameters = (normal(2, 4, 5, key="weight"), normal(2, 4, key="bias"))[: 1 + has_bias]
    layer = TaskLinear(("weight", "bias")[: 1 + has_bias])
    assert_layer_computes(layer, lambda p, x: functional.linear(x, *p), parameters, normal(2, 3, 5, key="x"))


@pytest.mark.parametrize(
    ("layer", "reference"), [(TaskReLU(), torch.relu), (TaskTanh(), torch.tanh)], ids=["relu", "tanh"]
)
def test_non_linearity_and_its_derivatives_are_torchs(layer, reference):
    assert_layer_computes(layer, lambda p, x: reference(x), (), normal(2, 3, 5, key="x"), without_input=False)


@pytest.mark.parametrize("size", [2, 3])
def test_max_pool_and_its_derivatives_are_torchs(size):
    # Three does not divide four: the last row of pixels is in no square.
    def pooled(p, x):
        return functional.max_pool2d(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)

    assert_layer_computes(TaskMaxPool(size), pooled, (), normal(*IMAGES, key="x"))


def test_global_mean_and_its_derivatives_are_torchs():
    assert_layer_computes(TaskGlobalMean(), lambda p, x: x.mean((1, 2)), (), normal(*IMAGES, key="x"))


def test_flattened_images_have_the_order_of_channels_first():
    def flattened(p, x):
        return x.permute(0, 3, 1, 2).flatten(1)

    assert_layer_computes(TaskFlatten(), flattened, (), normal(*IMAGES, key="x"))


def test_sum_with_nothing_is_the_tensor_itself():
    first = normal(3)
    assert sum_of(first, None) is first
    assert torch.equal(sum_of(first.clone(), first), 2 * first)
