"""Learned rates, losses of all steps and starts of the output layer together: on every path, order and memory."""

from dataclasses import replace

import pytest
import torch

from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import cnn, mlp
from mamlcli.engine.objective import MetaObjective
from mamlcli.engine.rates import with_rates
from tests.helpers.numerics import meta_gradient, relative_error
from tests.helpers.problems import (
    LOOP,
    LR,
    NETWORKS,
    NUM_STEPS,
    SAME_SUMS,
    STEP_WEIGHTS,
    TRANSFORMS,
    WAYS,
    assert_same_meta_gradient,
    problem,
)

# Which parameters adapt, and how the output layer starts; with boil it does not adapt, and is learned.
EVERY_START = pytest.mark.parametrize(
    ("algorithm", "head"),
    [*((name, head) for name in ("maml", "anil") for head in ("learned", "zero", "shared")), ("boil", "learned")],
)
EVERY_TRANSFORM = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


def with_learned_rates(transform, rates, algorithm="maml", **settings):
    """Return a problem with learned rates around a transform, all away from their start."""
    network = cnn((1, 5, 5), WAYS, depth=1, width=3) if algorithm == "boil" else mlp((4,), WAYS, depth=1, width=4)
    return problem(network, algorithm, with_rates(transform, rates, lr=LR, num_steps=NUM_STEPS), **settings)


def assert_same_on_every_path_and_memory(case):
    """Require the loop's meta-gradient and losses, of all steps, of the other paths and of constant memory."""
    assert_same_meta_gradient(case, chunk_sizes=[3], step_weights=STEP_WEIGHTS)
    objective, meta, episode = case
    expected = meta_gradient(*case, LOOP, STEP_WEIGHTS)
    constant = MetaObjective(objective.network, replace(objective.inner, recompute=True))
    for execution in (LOOP, Execution("explicit", 2)):
        found = meta_gradient(constant, meta, episode, execution, STEP_WEIGHTS)
        assert relative_error(found.gradients, expected.gradients) < SAME_SUMS, execution
        assert torch.allclose(found.outer_loss, expected.outer_loss, rtol=SAME_SUMS, atol=0)


@EVERY_START
@EVERY_TRANSFORM
def test_rates_around_every_transform(transform, algorithm, head):
    assert_same_on_every_path_and_memory(with_learned_rates(transform, "tensor-step", algorithm, head=head))


@EVERY_START
@pytest.mark.parametrize("rates", ["fixed", "tensor", "step"])
def test_first_order(rates, algorithm, head):
    case = with_learned_rates(TRANSFORMS["kfo"], rates, algorithm, head=head, first_order=True)
    assert case[0].inner.first_order
    assert_same_on_every_path_and_memory(case)


@EVERY_TRANSFORM
def test_losses_of_all_steps_of_a_transform_that_adapts(transform):
    assert_same_on_every_path_and_memory(with_learned_rates(transform, "fixed", adapt_transform=True))


@pytest.mark.parametrize("rates", ["fixed", "tensor-step"])
def test_losses_of_all_steps_on_joint_features(rates):
    transform = with_rates(TRANSFORMS["none"], rates, lr=LR, num_steps=NUM_STEPS)
    case = problem(NETWORKS["cnn-stride"](), "anil", transform, joint_features=True)
    assert_same_on_every_path_and_memory(case)


@pytest.mark.parametrize("head", ["zero", "shared"])
def test_rates_of_the_first_step_have_no_gradient_below_an_output_layer_that_is_the_same_for_all_classes(head):
    def gradient_of(rates, name):
        case = with_learned_rates(TRANSFORMS["none"], rates, head=head)
        return meta_gradient(*case, LOOP).gradients[f"transform/{name}/rate"].abs()

    for name in ("body.0.weight", "body.0.bias"):
        first, second = gradient_of("tensor-step", name)
        assert first < 1e-15
        assert second > 1e-5
    assert (gradient_of("step", "*") > 1e-5).all()
    assert (gradient_of("tensor-step", "head.0.weight") > 1e-5).all()
