"""The explicit objective of a chunk of tasks: parts that adapt, and the memory of an inner loop."""

from dataclasses import replace

import pytest
import torch

from mamlcli.engine.execution import Execution
from mamlcli.engine.explicit.objective import explicit_objective
from mamlcli.engine.networks import Network, cnn, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.engine.transforms import KFO, Identity
from tests.helpers.numerics import meta_gradient, relative_error
from tests.helpers.problems import (
    LOOP,
    NETWORKS,
    SAME_SUMS,
    TRANSFORMS,
    WAYS,
    Doubled,
    assert_same_meta_gradient,
    problem,
)


def test_network_with_a_layer_that_is_not_covered_has_no_explicit_form():
    covered = mlp((4,), WAYS, depth=1, width=5)
    network = Network(torch.nn.Sequential(*covered.body, Doubled()), covered.head, (4,))
    assert explicit_objective(problem(network)[0], "cpu") is None
    assert explicit_objective(problem(covered)[0], "cpu") is not None


def test_runs_trained_together_have_each_its_share_of_the_tasks():
    objective, meta, episode = problem(NETWORKS["mlp"](), transform=KFO())
    explicit, first, second = explicit_objective(objective, "cpu"), episode.tasks(0, 2), episode.tasks(2, 4)
    moved = MetaParams.from_flat({name: 1.1 * value for name, value in meta.flat().items()})
    stacked = MetaParams.from_flat({n: torch.stack([v, moved.flat()[n]]) for n, v in meta.flat().items()})
    losses, _ = explicit.outer_loss(stacked.model, stacked.transform, *episode.tasks(0, 4).data())
    alone = [explicit.outer_loss(m.model, m.transform, *e.data())[0] for m, e in ((meta, first), (moved, second))]
    assert torch.allclose(losses, torch.cat(alone), rtol=SAME_SUMS, atol=0)


@pytest.mark.parametrize("patterns", [["body.*"], ["body.0.conv.weight"], ["*.bias"], ["body.1.*", "head.*"]])
def test_parameters_that_do_not_adapt_have_the_loops_meta_gradient(patterns):
    assert_same_meta_gradient(problem(NETWORKS["cnn-stride"](), adapt_patterns=patterns), chunk_sizes=[2])


def test_joint_features_have_the_loops_meta_gradient():
    case = problem(NETWORKS["cnn-stride"](), "anil", joint_features=True)
    assert_same_meta_gradient(case, chunk_sizes=[1, 2])


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil", "boil"])
@pytest.mark.parametrize("is_adapted", [False, True])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_recomputed_steps_have_the_unrolled_meta_gradient(algorithm, is_adapted, transform):
    network = cnn((1, 5, 5), WAYS, depth=1, width=3)
    objective, meta, episode = problem(network, algorithm, transform, adapt_transform=is_adapted)
    expected = meta_gradient(objective, meta, episode, LOOP)
    constant = MetaObjective(network, replace(objective.inner, num_inner_steps=2, recompute=True))
    for execution in (LOOP, Execution("explicit", 1), Execution("explicit", 3)):
        found = meta_gradient(constant, meta, episode, execution)
        assert relative_error(found.gradients, expected.gradients) < SAME_SUMS, execution


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputed_steps_of_parts_of_a_network_have_the_unrolled_meta_gradient(name):
    objective, meta, episode = problem(NETWORKS[name](), adapt_patterns=["head.0.*"], transform=KFO())
    constant = MetaObjective(objective.network, replace(objective.inner, recompute=True))
    expected = meta_gradient(objective, meta, episode, LOOP).gradients
    for execution in (LOOP, Execution("explicit", 2)):
        assert relative_error(meta_gradient(constant, meta, episode, execution).gradients, expected) < SAME_SUMS


def saved_numbers(objective, meta, episode, execution):
    """Return how many numbers autograd keeps of a chunk's graph between its forward and its backward pass."""
    seen = {}

    def keep(tensor):
        seen[tensor.data_ptr()] = max(seen.get(tensor.data_ptr(), 0), tensor.numel())
        return tensor

    leaves = MetaParams.from_flat({name: value.clone().requires_grad_(True) for name, value in meta.flat().items()})
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        explicit_objective(objective, "cpu").outer_loss(leaves.model, leaves.transform, *episode.data())
    return sum(seen.values())


@pytest.mark.parametrize("transform", [Identity(), KFO()], ids=["identity", "kfo"])
def test_recomputed_steps_keep_the_fast_weights_alone(transform):
    objective, meta, episode = problem(NETWORKS["cnn-stride"](), transform=transform)
    num_parameters = sum(value.numel() for value in meta.model.values()) * episode.num_tasks

    def kept(num_inner_steps):
        inner = replace(objective.inner, num_inner_steps=num_inner_steps, recompute=True)
        return saved_numbers(MetaObjective(objective.network, inner), meta, episode, Execution("explicit"))

    assert kept(12) - kept(2) <= 10 * num_parameters
