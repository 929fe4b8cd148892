"""The explicit objective of a chunk of tasks: parts that adapt, and the memory of an inner loop."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from mamlcli.engine.execution import Execution
from mamlcli.engine.explicit.objective import explicit_objective
from mamlcli.engine.networks import Network, cnn, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.engine.rates import with_rates
from mamlcli.engine.transforms import KFO, Identity
from tests.helpers.numerics import meta_gradient, relative_error
from tests.helpers.problems import (
    EVERY_TRANSFORM,
    LOOP,
    NETWORKS,
    SAME_SUMS,
    STEP_WEIGHTS,
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


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
@pytest.mark.parametrize("step_weights", [None, STEP_WEIGHTS], ids=["last step", "all steps"])
@pytest.mark.parametrize("transform", EVERY_TRANSFORM.values(), ids=EVERY_TRANSFORM)
def test_recomputed_rates_and_losses_of_steps_have_the_unrolled_meta_gradient(algorithm, step_weights, transform):
    objective, meta, episode = problem(cnn((1, 5, 5), WAYS, depth=1, width=3), algorithm, transform)
    expected = meta_gradient(objective, meta, episode, LOOP, step_weights)
    constant = MetaObjective(objective.network, replace(objective.inner, recompute=True))
    for execution in (LOOP, Execution("explicit", 1), Execution("explicit", 3)):
        found = meta_gradient(constant, meta, episode, execution, step_weights)
        assert relative_error(found.gradients, expected.gradients) < SAME_SUMS, execution
        assert torch.allclose(found.outer_loss, expected.outer_loss, rtol=SAME_SUMS, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputed_steps_of_parts_of_a_network_have_the_unrolled_meta_gradient(name):
    objective, meta, episode = problem(NETWORKS[name](), adapt_patterns=["head.0.*"], transform=KFO())
    constant = MetaObjective(objective.network, replace(objective.inner, recompute=True))
    expected = meta_gradient(objective, meta, episode, LOOP).gradients
    for execution in (LOOP, Execution("explicit", 2)):
        assert relative_error(meta_gradient(constant, meta, episode, execution).gradients, expected) < SAME_SUMS


def numbers_below(value, sizes, looked_at):
    """Note the size of every tensor that is reached from a value through attributes, containers and closures."""
    if id(value) in looked_at:
        return
    looked_at[id(value)] = value
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes() // value.element_size()
        return
    below = list(value.values()) if isinstance(value, dict) else []
    below += value if isinstance(value, list | tuple) else []
    below += [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    below += [*value.args, value.func] if isinstance(value, partial) else []
    below += getattr(value, "__dict__", {}).values()
    for part in below:
        numbers_below(part, sizes, looked_at)


def kept_numbers(objective, meta, episode, step_weights=None):
    """Return how many numbers the graph of a chunk keeps between its forward and its backward pass."""
    sizes, looked_at, nodes = {}, {}, []

    def keep(tensor):
        numbers_below(tensor, sizes, looked_at)
        return tensor

    leaves = MetaParams.from_flat({name: value.clone().requires_grad_(True) for name, value in meta.flat().items()})
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = explicit_objective(objective, "cpu").outer_loss(
            leaves.model, leaves.transform, *episode.data(), step_weights=step_weights
        )
    # A written-out derivative is a node of the graph and holds what it needs as attributes.
    nodes = [loss.grad_fn]
    for node in nodes:
        numbers_below(vars(node) if hasattr(node, "__dict__") else (), sizes, looked_at)
        nodes += {after for after, _ in node.next_functions if after is not None}.difference(nodes)
    return sum(sizes.values())


@pytest.mark.parametrize("has_step_losses", [False, True])
@pytest.mark.parametrize("rates", ["fixed", "tensor-step"])
@pytest.mark.parametrize("transform", [Identity(), KFO()], ids=["identity", "kfo"])
def test_recomputed_steps_keep_the_fast_weights_alone(transform, rates, has_step_losses):
    network = cnn((2, 9, 9), WAYS, depth=2, width=3)

    def growth(*, recompute):
        """Return how many numbers more ten more steps keep, for each number of the fast weights of all tasks."""
        kept = []
        for num_inner_steps in (2, 12):
            with_steps = with_rates(transform, rates, lr=0.2, num_steps=num_inner_steps)
            objective, meta, episode = problem(network, transform=with_steps)
            inner = replace(objective.inner, num_inner_steps=num_inner_steps, recompute=recompute)
            weights = (1 / num_inner_steps,) * num_inner_steps if has_step_losses else None
            kept.append(kept_numbers(MetaObjective(network, inner), meta, episode, weights))
        return (kept[1] - kept[0]) / sum(value.numel() for value in meta.model.values()) / episode.num_tasks

    # Of each step its fast weights, and the rates of every weight, once for all five tasks; a little is left over.
    assert growth(recompute=True) <= 10 * (1.0 if rates == "fixed" else 1.2) + 1
    # The activations are far more: were they kept, the test would see it.
    assert growth(recompute=False) > 100
