"""Convolutions over many tasks: values and derivatives, by patches and called directly."""

import pytest
import torch
from torch.nn import functional

from mamlcli.engine.explicit.convolution import TaskConv
from mamlcli.engine.explicit.objective import ExplicitObjective
from mamlcli.engine.networks import cnn
from tests.helpers.numerics import meta_gradient, normal, relative_error
from tests.helpers.problems import LOOP, SAME_SUMS, WAYS, assert_same_meta_gradient, problem
from tests.helpers.task_layers import assert_layer_computes

NAMES = ("conv.weight", "conv.bias")


def conv_parameters(num_tasks=2, channels=3, width=4):
    return normal(num_tasks, width, 3, 3, channels, key="weight"), normal(num_tasks, width, key="bias")


def convolution(stride, *, has_bias):
    """Return the convolution of one task, its images and weight with the channels last."""

    def reference(p, x):
        bias = p[1] if has_bias else 0 * p[1]
        images, weight = x.permute(0, 3, 1, 2), p[0].permute(0, 3, 1, 2)
        return functional.conv2d(images, weight, bias, stride, padding=1).permute(0, 2, 3, 1)

    return reference


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("is_unfolded", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_and_its_derivatives_are_torchs(stride, is_unfolded, has_bias):
    layer = TaskConv(NAMES, stride, is_unfolded, has_bias)
    # 5 x 4: with stride 2 the last patches of the rows overlap the padding, those of the columns do not.
    x = normal(2, 3, 5, 4, 3, key="images")
    assert_layer_computes(layer, convolution(stride, has_bias=has_bias), conv_parameters(), x)


def test_patches_are_the_three_by_three_squares_around_each_pixel():
    x = normal(1, 1, 4, 5, 2, key="images")
    patches = TaskConv(NAMES, 1, is_unfolded=True, has_bias=True).unfold(x).view(4, 5, 3, 3, 2)
    assert torch.equal(patches[2, 1], x[0, 0, 1:4, 0:3])
    # The corner's square lies outside the image by one row and one column, which are zero.
    assert torch.equal(patches[0, 0, 1:, 1:], x[0, 0, :2, :2])
    assert not patches[0, 0, 0].any()
    assert not patches[0, 0, :, 0].any()


@pytest.mark.parametrize("stride", [1, 2])
def test_inputs_gathered_into_patches_before_give_the_same_outputs(stride):
    layer, p = TaskConv(NAMES, stride, is_unfolded=True, has_bias=True), conv_parameters()
    x = normal(2, 3, 5, 4, 3, key="images")
    patches = layer.prepared(x)
    assert patches.shape[-1] == 9 * x.shape[-1]
    assert torch.equal(layer.forward(p, patches)[0], layer.forward(p, x)[0])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("norm", ["batch", "none", "group", "layer"])
def test_convolutions_by_patches_are_those_called_directly(stride, norm):
    # Wide and large enough for both: the CPU would multiply the patches of the first block and of the last.
    network = cnn((5, 9, 9), WAYS, depth=2, width=8, stride=stride, norm=norm)
    case = problem(network)
    assert_same_meta_gradient(case, chunk_sizes=[2], paths=("explicit",))
    patches = ExplicitObjective(case[0], "cuda")  # as on CUDA: patches everywhere
    leaves = {name: value.clone().requires_grad_(True) for name, value in case[1].model.items()}
    loss, _ = patches.outer_loss(leaves, {}, *case[2].data())
    found = torch.autograd.grad(loss.mean(), list(leaves.values()))
    gradients = {f"model/{name}": value for name, value in zip(leaves, found, strict=True)}
    assert relative_error(gradients, meta_gradient(*case, LOOP).gradients) < SAME_SUMS
