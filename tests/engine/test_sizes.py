"""Sizes of networks, counted by hand."""

from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import cnn, linear
from mamlcli.engine.sizes import activation_size, count_parameters, forward_flops


def test_count_of_the_release_network_is_the_hand_count():
    # CIFAR-FS, depth 2, width 32, 5 ways:
    # conv 3 -> 32:   32 * 3 * 9 + 32  =    896;  norm 2 * 32 = 64
    # conv 32 -> 32:  32 * 32 * 9 + 32 = 9 248;  norm 2 * 32 = 64
    # head 32 -> 5:   5 * 32 + 5       =    165
    # together                           10 437
    network = cnn((3, 32, 32), 5, depth=2, width=32)
    assert count_parameters(initial_params(network, init="release", seed=0)) == 10_437


def test_activation_size_is_the_hand_count():
    # 8x8 image, width 4, pool 2: conv, norm 2 * 4 * 64 = 512; (pooling inside the block is not a module);
    # global mean 4; head 3.
    assert activation_size(cnn((1, 8, 8), 3, depth=1, width=4, pool=2)) == 512 + 4 + 3


def test_operations_of_convolutions_are_those_counted_by_hand():
    # 5x4 image, stride 2, padding 1 -> 3x2 maps; 3 channels of 2 * 9 multiply-adds each: 6 * 3 * 18 = 324.
    # Second block: 2x1 maps of 3 channels, 3 * 9 multiply-adds each: 2 * 3 * 27 = 162. Head 3 -> 4: 12.
    assert forward_flops(cnn((2, 5, 4), 4, depth=2, width=3, stride=2)) == 2 * (324 + 162 + 12)


def test_operations_of_linear_layers_are_two_a_weight():
    assert forward_flops(linear((10,), 2, depth=3, width=7)) == 2 * (70 + 49 + 14)
