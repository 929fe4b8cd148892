"""The cases of the bench: networks, tasks, and operations counted by hand."""

import pytest
import torch

from mamlcli.bench.cases import (
    CASES,
    case_flops,
    chosen_cases,
    experiment_of,
    meta_gradient_flops,
    problem_of,
)
from mamlcli.common.errors import MamlError
from mamlcli.engine.networks import cnn, linear
from mamlcli.engine.sizes import forward_flops
from tests.helpers.benches import TINY_CASE
from tests.helpers.numerics import DOUBLE


def test_cases_are_chosen_by_name_and_group_in_order():
    assert [case.name for case in chosen_cases(["kfo", "omniglot", "kfo"])] == ["kfo", "omniglot"]
    names = [case.name for case in chosen_cases(["steps"])]
    assert names == ["steps-1", "steps-5", "steps-25", "steps-100"]
    assert next(case.name for case in chosen_cases(["steps-25", "steps"])) == "steps-25"


def test_unknown_case_is_an_error_with_the_nearest_name():
    with pytest.raises(MamlError, match=r"--cases: expected names of .*, got 'omniglt'\. Did you mean 'omniglot'\?"):
        chosen_cases(["omniglt"])
    with pytest.raises(MamlError, match="got none"):
        chosen_cases([])


@pytest.mark.parametrize("name", CASES)
def test_cases_are_what_they_say(name):
    recipe = experiment_of(CASES[name], device="cpu").recipe
    assert (recipe.outer.tasks, recipe.inner.algorithm, recipe.inner.first_order) == (16, "maml", False)
    expected_steps = int(name.partition("-")[2]) if name.startswith("steps") else 5
    assert recipe.inner.steps == expected_steps
    assert recipe.inner.transform.name == ("kfo" if name == "kfo" else "none")
    inputs = problem_of(CASES[name], device="cpu", num_tasks=1).episode.support_x
    assert inputs.shape[1] == (10 if name == "logistic" else 25)


def test_networks_of_the_cases():
    def shapes(name):
        return [
            tuple(p.shape) for _, p in experiment_of(CASES[name], device="cpu").network.named_parameters() if p.ndim > 1
        ]

    assert shapes("omniglot") == [(64, 1, 3, 3), *[(64, 64, 3, 3)] * 3, (5, 64)]
    assert shapes("cifar-fs") == [(32, 3, 3, 3), *[(32, 32, 3, 3)] * 3, (5, 32)]
    assert shapes("cifar-fs-release") == [(32, 3, 3, 3), (32, 32, 3, 3), (5, 32)]
    assert shapes("logistic") == [(100, 100), (100, 100), (2, 100)]
    assert shapes("kfo") == shapes("cifar-fs")
    assert shapes("steps-25") == shapes("omniglot")


def test_fewer_tasks_are_the_first_ones_and_precision_changes_no_number():
    many = problem_of(TINY_CASE, device="cpu", num_tasks=3)
    few = problem_of(TINY_CASE, device="cpu", dtype=DOUBLE, num_tasks=2)
    assert few.episode.support_x.dtype == DOUBLE
    assert torch.equal(few.episode.support_x.float(), many.episode.support_x[:2])
    assert torch.equal(few.episode.support_x, many.episode.support_x[:2].double())
    assert not torch.equal(many.episode.support_x, many.episode.query_x)
    for name, value in many.meta.flat().items():
        assert torch.equal(value.double(), few.meta.flat()[name])


def test_kfo_starts_away_from_the_identity():
    meta = problem_of(CASES["kfo"], device="cpu", num_tasks=1).meta
    left = meta.transform["body.0.conv.weight/left"]
    assert not torch.equal(left, left.T)


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
