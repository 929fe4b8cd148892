"""Sizes and names of a network, worked out without building it."""

import pytest
import torch

from mamlcli.common.architecture import feature_map_sides, head_sizes, parameter_names, select_names
from mamlcli.common.errors import MamlError
from mamlcli.engine.networks import cnn, linear, mlp

BLOCKS = {"depth": 1, "width": 4, "stride": 1, "pool": 1, "norm": "batch"}


def sides(image, **settings):
    return feature_map_sides(image, **{**BLOCKS, **settings})


@pytest.mark.parametrize(("depth", "stride", "pool"), [(1, 1, 1), (3, 2, 1), (2, 1, 3), (2, 2, 2)])
def test_sides_of_feature_maps_are_those_that_the_network_computes(depth, stride, pool):
    network = cnn((1, 19, 26), 2, depth=depth, width=3, stride=stride, pool=pool, head="flatten")
    features = network(torch.zeros(1, 1, 19, 26), "body")
    height, width = sides((19, 26), depth=depth, stride=stride, pool=pool)
    assert features.shape == (1, 3 * height * width)


@pytest.mark.parametrize("width", range(1, 20))
def test_a_norm_of_single_numbers_is_refused_and_no_other(width):
    def is_refused(norm, image):
        try:
            sides(image, width=width, norm=norm)
        except MamlError as error:
            return error.where == "model.norm"
        return False

    # 8 groups at most, as many as divide the width: single channels for widths that divide 8.
    assert is_refused("group", (1, 1)) == (width in (1, 2, 4, 8))
    assert is_refused("layer", (1, 1)) == (width == 1)
    assert not any(is_refused(norm, (1, 1)) for norm in ("batch", "none"))
    assert not any(is_refused(norm, (1, 2)) for norm in ("group", "layer"))


def test_a_norm_of_single_numbers_is_refused_at_the_block_that_has_it():
    # 28 -> 14 -> 7 -> 4 -> 2 -> 1 with stride 2.
    sides((28, 28), depth=4, width=8, stride=2, norm="group")
    with pytest.raises(MamlError, match=r"model\.norm: .*got 'group'\. In block 5 .*Set model\.width=16, .*=4\."):
        sides((28, 28), depth=5, width=8, stride=2, norm="group")


def test_a_pool_wider_than_the_image_is_refused_and_no_depth_of_zero_is_suggested():
    assert sides((3, 9), pool=3) == (1, 3)
    with pytest.raises(MamlError, match=r"model\.pool: expected at most 3 for 3x9 images .* got 4\.") as refused:
        sides((3, 9), pool=4)
    assert "depth" not in str(refused.value)


def test_a_head_narrower_than_what_it_joins_is_refused():
    assert head_sizes(6, 3, num_extra=2, extra_width=4) == [6, 4, 4, 3]
    assert head_sizes(6, 3, num_extra=1, extra_width=None) == [6, 6, 3]
    assert head_sizes(6, 3, num_extra=0, extra_width=1) == [6, 3]
    with pytest.raises(MamlError, match=r"model\.width: expected an integer >= 3 .* got 2\."):
        head_sizes(6, 3, num_extra=1, extra_width=2, width_key="model.width")


@pytest.mark.parametrize("norm", ["batch", "none", "group", "layer"])
@pytest.mark.parametrize("linear_layers", [0, 2])
def test_names_are_those_of_a_cnn(norm, linear_layers):
    network = cnn((1, 8, 8), 3, depth=2, width=4, norm=norm, linear_layers=linear_layers)
    named = parameter_names("cnn", depth=2, norm=norm, linear_layers=linear_layers, of_images=True)
    assert named == network.names_by_part()


@pytest.mark.parametrize("shape", [(16,), (1, 4, 4)])
@pytest.mark.parametrize("depth", [1, 3])
def test_names_are_those_of_networks_without_convolutions(shape, depth):
    of_images = len(shape) == 3
    network = mlp(shape, 3, depth=depth, width=4, linear_layers=1)
    assert parameter_names("mlp", depth=depth, linear_layers=1, of_images=of_images) == network.names_by_part()
    for bias in (True, False):
        network = linear(shape, 3, depth=depth, bias=bias, linear_layers=1)
        named = parameter_names("linear", depth=depth, bias=bias, linear_layers=1, of_images=of_images)
        assert named == network.names_by_part()
        assert named.all == network.parameter_names()


def test_pattern_that_matches_nothing_is_refused_and_the_names_are_listed():
    names = ("body.0.weight", "head.0.weight", "head.0.bias")
    assert select_names(names, ["*.bias", "body.*"], where="inner.adapt") == ("body.0.weight", "head.0.bias")
    with pytest.raises(MamlError, match=r"inner\.adapt: .*'tail\.\*'.*body\.0\.weight, head\.0\.weight"):
        select_names(names, ["head.*", "tail.*"], where="inner.adapt")


def test_of_hundreds_of_names_a_message_lists_some():
    names = parameter_names("cnn", depth=300, norm="batch").all
    with pytest.raises(MamlError) as refused:
        select_names(names, ["tail.*"], where="inner.adapt")
    assert len(str(refused.value)) < 1000
