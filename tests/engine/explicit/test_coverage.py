"""Which layers over many tasks compute a network, and which network has none."""

import pytest
import torch

from mamlcli.engine.explicit.convolution import TaskConv
from mamlcli.engine.explicit.coverage import NotCoveredError, layers_of
from mamlcli.engine.explicit.input_block import TaskInputBlock, TaskInputBlockMean
from mamlcli.engine.explicit.layers import TaskFlatten, TaskLinear, TaskMaxPool, TaskReLU
from mamlcli.engine.explicit.norms import TaskBatchNorm, TaskGroupNorm
from mamlcli.engine.networks import Network, cnn, linear, mlp
from tests.helpers.problems import WAYS, Doubled


def kinds(network, part="all"):
    return [type(layer) for layer in layers_of(network, part, "cpu")]


def test_first_block_of_few_channels_is_one_layer_and_later_blocks_are_three():
    network = cnn((1, 8, 8), WAYS, depth=2, width=3, stride=2)
    assert kinds(network, "body")[:4] == [TaskInputBlock, TaskConv, TaskBatchNorm, TaskReLU]
    assert kinds(network, "head") == [TaskLinear]
    assert kinds(cnn((1, 8, 8), WAYS, depth=1, width=3, stride=2)) == [TaskInputBlockMean, TaskLinear]


def test_first_block_of_many_channels_or_of_another_norm_is_not():
    assert kinds(cnn((8, 8, 8), WAYS, depth=1, width=3))[:3] == [TaskConv, TaskBatchNorm, TaskReLU]
    assert kinds(cnn((1, 8, 8), WAYS, depth=1, width=3, norm="group"))[:3] == [TaskConv, TaskGroupNorm, TaskReLU]


def test_pool_and_flattening_have_layers():
    assert TaskMaxPool in kinds(cnn((1, 8, 8), WAYS, depth=1, width=3, stride=1, pool=2))
    assert kinds(linear((1, 8, 8), WAYS, depth=1)) == [TaskFlatten, TaskLinear]


def test_layer_without_written_derivatives_is_named():
    covered = mlp((4,), WAYS, depth=1, width=5)
    network = Network(torch.nn.Sequential(*covered.body, Doubled()), covered.head, (4,))
    with pytest.raises(NotCoveredError, match=r"body\.2: Doubled"):
        layers_of(network, "all", "cpu")
    assert kinds(network, "head") == [TaskLinear]
