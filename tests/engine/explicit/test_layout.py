"""The layout of named parameters in one vector."""

import pytest
import torch

from mamlcli.engine.explicit.layout import Layout
from tests.helpers.numerics import normal

SHAPES = {"conv.weight": (2, 3, 3, 3), "conv.bias": (2,), "head.weight": (4, 2)}
LAYOUT = Layout(tuple(SHAPES), tuple(SHAPES.values()))


def tensors(*leading):
    return {name: normal(*leading, *shape, key=name) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("leading", [(), (5,), (2, 5)])
def test_named_tensors_come_back_from_their_vector(leading):
    named = tensors(*leading)
    flat = LAYOUT.flat(named)
    assert flat.shape == (*leading, 2 * 3 * 9 + 2 + 4 * 2)
    found = LAYOUT.tensors(flat)
    assert list(found) == list(SHAPES)
    assert all(torch.equal(found[name], value) for name, value in named.items())


def test_vector_has_the_parameters_in_order_and_the_channels_of_a_convolution_last():
    named = tensors()
    start = torch.cat([named["conv.weight"].permute(0, 2, 3, 1).flatten(), named["conv.bias"]])
    assert torch.equal(LAYOUT.flat(named)[: len(start)], start)


def test_views_share_the_memory_of_the_vector():
    flat = LAYOUT.flat(tensors(5))
    weight, _, head = LAYOUT.views(flat)
    assert weight.shape == (5, 2, 3, 3, 3)
    head.zero_()
    assert not flat[:, -8:].any()
