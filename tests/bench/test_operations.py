"""Operations of the cases, counted by hand."""

from mamlcli.bench.cases import CASES
from mamlcli.bench.operations import case_flops, evaluation_flops, head_only_flops, meta_gradient_flops
from mamlcli.engine.networks import cnn, linear
from mamlcli.engine.sizes import forward_flops


def test_operations_are_those_counted_by_hand():
    # 5x4 image, stride 2, padding 1 -> 3x2 maps; 3 channels of 2 * 9 multiply-adds each: 6 * 3 * 18 = 324.
    # Second block: 2x1 maps of 3 channels, 3 * 9 multiply-adds each: 2 * 3 * 27 = 162. Head 3 -> 4: 12.
    network = cnn((2, 5, 4), 4, depth=2, width=3, stride=2)
    assert forward_flops(network) == 2 * (324 + 162 + 12)
    # 7 tasks of 6 support inputs, 5 steps of 9 forward passes, and 2 query inputs of 3.
    count = meta_gradient_flops(network, num_support=6, num_query=2, num_steps=5, num_tasks=7)
    assert count == 7 * 996 * (9 * 5 * 6 + 3 * 2)


def test_operations_of_linear_layers_are_two_a_weight():
    assert forward_flops(linear((10,), 2, depth=3, width=7)) == 2 * (70 + 49 + 14)
    assert case_flops(CASES["logistic"]) == 16 * 2 * (10_000 + 10_000 + 200) * (9 * 5 * 10 + 3 * 10)


def test_operations_of_features_that_stay_are_counted_once():
    # As above: a body of 2 * (324 + 162) operations and a head of 2 * 12.
    network = cnn((2, 5, 4), 4, depth=2, width=3, stride=2)
    count = head_only_flops(network, num_support=6, num_query=2, num_steps=5, num_tasks=7)
    assert count == 7 * (3 * 972 * (6 + 2) + 24 * (9 * 5 * 6 + 3 * 2))
    assert case_flops(CASES["anil"]) < case_flops(CASES["cifar-fs-release"]) / 5


def test_operations_of_an_evaluation_are_those_of_steps_and_scores():
    network = cnn((2, 5, 4), 4, depth=2, width=3, stride=2)
    # 5 steps of 3 forward passes and a last score of 6 support inputs; 6 scores of 2 query inputs.
    count = evaluation_flops(network, num_support=6, num_query=2, num_steps=5, num_tasks=7)
    assert count == 7 * 996 * (16 * 6 + 6 * 2)
    assert case_flops(CASES["evaluation"]) == evaluation_flops(
        cnn((1, 28, 28), 5, depth=4, width=32, stride=2), num_support=5, num_query=25, num_steps=3, num_tasks=600
    )
