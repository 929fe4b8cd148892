"""The cases of the bench: networks, tasks, and operations counted by hand."""

import pytest
import torch

from mamlcli.bench.cases import (
    CASES,
    EVALUATION,
    chosen_cases,
    experiment_of,
    problem_of,
)
from mamlcli.common.errors import MamlError
from mamlcli.recipe.files import load_recipe
from tests.helpers.benches import TINY_CASE
from tests.helpers.numerics import DOUBLE


def test_cases_are_chosen_by_name_and_group_in_order():
    assert [case.name for case in chosen_cases(["kfo", "omniglot", "kfo"])] == ["kfo", "omniglot"]
    names = [case.name for case in chosen_cases(["steps"])]
    assert names == ["steps-1", "steps-5", "steps-25"]
    assert [case.name for case in chosen_cases(["steps-100"])] == ["steps-100"]
    assert next(case.name for case in chosen_cases(["steps-25", "steps"])) == "steps-25"


def test_unknown_case_is_an_error_with_the_nearest_name():
    with pytest.raises(MamlError, match=r"--cases: expected names of .*, got 'omniglt'\. Did you mean 'omniglot'\?"):
        chosen_cases(["omniglt"])
    with pytest.raises(MamlError, match="got none"):
        chosen_cases([])


@pytest.mark.parametrize("name", CASES)
def test_cases_are_what_they_say(name):
    case = CASES[name]
    recipe = experiment_of(case, device="cpu").recipe
    is_scored = case.kind == EVALUATION
    assert case.tasks == (recipe.evaluation.tasks if is_scored else recipe.outer.tasks)
    assert (recipe.inner.algorithm, recipe.inner.first_order) == ("anil" if name == "anil" else "maml", False)
    expected_steps = int(name.partition("-")[2]) if name.startswith("steps") else 3 if case.shots == 1 else 5
    assert recipe.inner.steps == expected_steps
    assert recipe.inner.transform.name == ("kfo" if name == "kfo" else "none")
    assert recipe.inner.joint_features == (name == "anil")
    episode = problem_of(case, device="cpu", num_tasks=1).episode
    of_class = 1 if name == "logistic" else case.ways  # the points of a logistic task are counted together
    assert episode.support_x.shape[1] == recipe.tasks.shots * of_class
    assert episode.query_x.shape[1] == recipe.tasks.queries * of_class


def test_shallow_and_evaluation_are_the_recipe_as_shipped():
    shipped = load_recipe("omniglot-5way-1shot")[1]
    assert experiment_of(CASES["evaluation"], device="cpu").recipe.evaluation == shipped.evaluation
    shallow = experiment_of(CASES["shallow"], device="cpu").recipe
    assert (shallow.model.depth, shallow.model.width) == (1, shipped.model.width)
    assert (shallow.tasks, shallow.inner, shallow.outer) == (shipped.tasks, shipped.inner, shipped.outer)


def test_networks_of_the_cases():
    def shapes(name):
        return [
            tuple(p.shape) for _, p in experiment_of(CASES[name], device="cpu").network.named_parameters() if p.ndim > 1
        ]

    assert shapes("omniglot") == [(64, 1, 3, 3), *[(64, 64, 3, 3)] * 3, (5, 64)]
    assert shapes("cifar-fs") == [(32, 3, 3, 3), *[(32, 32, 3, 3)] * 3, (5, 32)]
    assert shapes("cifar-fs-release") == [(32, 3, 3, 3), (32, 32, 3, 3), (5, 32)]
    assert shapes("logistic") == [(100, 100), (100, 100), (2, 100)]
    assert shapes("anil") == shapes("cifar-fs-release")
    assert shapes("shallow") == [(32, 1, 3, 3), (5, 32)]
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
