"""Learned inner rates: where they start, what a step does with them, and derivatives by them."""

import pytest
import torch
from torch.autograd import grad
from torch.func import functional_call

from mamlcli.engine.execution import Execution
from mamlcli.engine.initial import initial_params
from mamlcli.engine.inner_loop import InnerLoop, adapt
from mamlcli.engine.networks import apply_network, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams, example_loss, inner_loop_for
from mamlcli.engine.rates import LearnedRates, with_rates
from mamlcli.engine.transforms import KFO, KFOMLP, Identity, MetaSGD, Selected, is_linear
from tests.helpers.numerics import (
    DOUBLE,
    classification_episode,
    directional_error,
    leaves,
    meta_gradient,
    normal,
    perturbed,
    relative_error,
)

RATES = ("tensor", "step", "tensor-step")
EVERY_RATES = pytest.mark.parametrize("rates", RATES)
EVERY_ORDER = pytest.mark.parametrize("first_order", [False, True])
TRANSFORMS = {"none": Identity(), "meta-sgd": MetaSGD(), "kfo-on-some": Selected(KFO(), ("head.0.weight",))}
EVERY_TRANSFORM = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)

LR, NUM_STEPS, WAYS = 0.3, 3, 3
NETWORK = mlp((4,), WAYS, depth=1, width=5, activation="tanh")
EPISODE = classification_episode((4,), num_tasks=2, ways=WAYS)
# Of the query losses after each inner step; None for the last alone.
EVERY_WEIGHTS = pytest.mark.parametrize("step_weights", [None, (0.2, 0.3, 0.5)], ids=["last step", "all steps"])


def problem(transform, *, first_order=False):
    """Return an objective and meta-parameters away from their start."""
    inner = inner_loop_for(
        "maml", NETWORK, lr=LR, num_inner_steps=NUM_STEPS, first_order=first_order, transform=transform
    )
    model = perturbed(initial_params(NETWORK, init="torch", seed=0, dtype=DOUBLE), scale=0.3)
    xi = perturbed(transform.init(model, 0), scale=0.1, key="xi")
    return MetaObjective(NETWORK, inner), MetaParams(model, xi)


def learned(rates, transform=Identity()):  # noqa: B008
    return with_rates(transform, rates, lr=LR, num_steps=NUM_STEPS)


# Where they start


def test_fixed_rates_are_the_transform_itself():
    assert learned("fixed", KFO()) == KFO()


def test_rates_are_named_after_their_parameter_and_hold_the_rate_of_each_step():
    params = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2, dtype=torch.float32)}
    shapes = {rates: {n: tuple(v.shape) for n, v in learned(rates).init(params, 0).items()} for rates in RATES}
    assert shapes == {
        "tensor": {"a.weight/rate": (), "a.bias/rate": ()},
        "step": {"*/rate": (NUM_STEPS,)},
        "tensor-step": {"a.weight/rate": (NUM_STEPS,), "a.bias/rate": (NUM_STEPS,)},
    }
    assert all((v == torch.tensor(LR)).all() for v in learned("tensor-step").init(params, 0).values())


def test_rates_come_beside_the_parameters_of_the_transform():
    selected = Selected(MetaSGD(), ("a",))
    names = learned("tensor", selected).init({"a": torch.zeros(2), "b": torch.zeros(2)}, 0)
    assert list(names) == ["a/scale", "a/rate", "b/rate"]


@EVERY_RATES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lr", [0.1, 0.3, 0.01, 0.007, 1 / 3, 1e-5])
def test_updates_at_the_start_are_those_without_rates_bit_for_bit(rates, dtype, lr):
    gradients = {name: normal(7, 3, key=name).to(dtype) for name in ("a", "b")}
    transform = with_rates(Identity(), rates, lr=lr, num_steps=NUM_STEPS)
    xi = transform.init(gradients, 0)
    for step in (0, 2, 9):
        updates = transform.apply(xi, gradients, step)
        assert all(torch.equal(updates[name], value) for name, value in gradients.items())


@EVERY_RATES
@EVERY_TRANSFORM
@EVERY_ORDER
@pytest.mark.parametrize("path", ["loop", "batched", "explicit"])
def test_meta_gradient_at_the_start_is_that_without_rates(rates, transform, first_order, path):
    def result(chosen):
        objective, meta = problem(chosen, first_order=first_order)
        meta = MetaParams(meta.model, chosen.init(meta.model, 0))
        return meta_gradient(objective, meta, EPISODE, Execution(path, 2))

    fixed, started = result(transform), result(learned(rates, transform))
    # Products with one are exact; sums may come in another order: those of the routes to one tensor, and those of
    # a step without a transform on the explicit path.
    assert torch.allclose(started.outer_loss, fixed.outer_loss, rtol=1e-13, atol=0)
    for name, value in fixed.gradients.items():
        assert torch.allclose(started.gradients[name], value, rtol=1e-13, atol=1e-15)


# What a step does with them


def test_each_step_and_tensor_moves_by_its_own_rate():
    # L = a + b with gradient one everywhere: phi_K = theta - the sum of the rates; after K steps the last one holds.
    params = {"a": torch.zeros(2, dtype=DOUBLE), "b": torch.zeros(1, dtype=DOUBLE)}

    def moved(rates, xi, num_steps):
        inner = InnerLoop(("a", "b"), LR, num_steps, transform=learned(rates))
        fast = adapt(lambda fast: fast["a"].sum() + fast["b"].sum(), params, xi, inner).fast_weights
        return [pytest.approx(float(-fast[name][0]), rel=1e-14) for name in ("a", "b")]

    of_a, of_b = torch.tensor([0.1, 0.2, 0.5], dtype=DOUBLE), torch.tensor([1.0, 2.0, -4.0], dtype=DOUBLE)
    both = {"a/rate": of_a, "b/rate": of_b}
    assert moved("tensor-step", both, 2) == [0.3, 3.0]
    assert moved("tensor-step", both, 3) == [0.8, -1.0]
    assert moved("tensor-step", both, 5) == [1.8, -9.0]
    assert moved("step", {"*/rate": of_a}, 5) == [1.8, 1.8]
    assert moved("tensor", {"a/rate": of_a[0], "b/rate": of_b[1]}, 5) == [0.5, 10.0]


def test_rates_scale_what_the_transform_gives():
    gradients = {"w": normal(3, 4, key="w")}
    inside = perturbed(KFO().init(gradients, 0), scale=0.3)
    xi = {**inside, "w/rate": torch.tensor([0.1, 0.6, 0.9], dtype=DOUBLE)}
    updates = learned("tensor-step", KFO()).apply(xi, gradients, 1)
    assert torch.allclose(updates["w"], 2.0 * KFO().apply(inside, gradients)["w"], rtol=1e-14, atol=0)


def test_rates_leave_a_transform_as_linear_as_it_is():
    assert is_linear(learned("step", KFO()))
    assert not is_linear(learned("step", KFOMLP()))
    assert not is_linear(learned("step", Selected(KFOMLP(), ("a",))))


def test_rates_are_told_from_the_parameters_of_the_transform():
    transform = LearnedRates(MetaSGD(), LR, is_per_tensor=True, num_steps=None)
    rates, rest = transform.split(transform.init({"a": torch.zeros(2)}, 0))
    assert (list(rates), list(rest)) == (["a/rate"], ["a/scale"])


# Derivatives


@EVERY_RATES
@EVERY_TRANSFORM
@EVERY_WEIGHTS
def test_meta_gradient_by_weights_and_rates_matches_finite_differences(rates, transform, step_weights):
    objective, meta = problem(learned(rates, transform))
    gradients = meta_gradient(objective, meta, EPISODE, Execution(), step_weights).gradients
    everything = meta.flat()

    def outer_loss(flat):
        point = MetaParams.from_flat(flat)
        tasks = [tuple(part[i] for part in EPISODE.data()) for i in range(2)]
        losses = [
            objective.outer_loss(point.model, point.transform, *task, step_weights=step_weights)[0] for task in tasks
        ]
        return sum(losses) / 2

    for part in ("model/", "rate"):
        tensors = {name: value for name, value in everything.items() if part in name}
        assert tensors
        error = directional_error(lambda moved: outer_loss({**everything, **moved}), gradients, tensors, key=part)
        assert error < 1e-7, part  # see directional_error


def unrolled(meta, rates, *, first_order, step_weights):
    """Return the meta-gradient of plain gradient descent with learned rates, by torch.autograd alone.

    phi_{k+1} = phi_k - rate_k * g_k for each tensor, g_k a constant in first order; the outer loss is
    sum_k w_k L_Q(phi_k), k = 1 ... K.
    """
    total = {name: torch.zeros_like(value) for name, value in meta.flat().items()}
    for i in range(EPISODE.num_tasks):
        support_x, support_y, query_x, query_y = (part[i] for part in EPISODE.data())
        theta, xi = leaves(meta.model), leaves(meta.transform)
        phi, loss = dict(theta), torch.zeros((), dtype=DOUBLE)
        for step in range(NUM_STEPS):
            outputs = functional_call(NETWORK, phi, (support_x,))
            slopes = grad(torch.nn.functional.cross_entropy(outputs, support_y), list(phi.values()), create_graph=True)
            following = {}
            for (name, value), slope in zip(phi.items(), slopes, strict=True):
                rate = xi["*/rate" if rates == "step" else f"{name}/rate"]
                rate = rate if rates == "tensor" else rate[step]
                following[name] = value - rate * (slope.detach() if first_order else slope)
            phi = following
            weight = step_weights[step] if step_weights else float(step == NUM_STEPS - 1)
            outputs = functional_call(NETWORK, phi, (query_x,))
            loss = loss + weight * torch.nn.functional.cross_entropy(outputs, query_y)
        inputs = MetaParams(theta, xi).flat()
        for name, slope in zip(inputs, grad(loss / EPISODE.num_tasks, list(inputs.values())), strict=True):
            total[name] += slope
    return total


@EVERY_RATES
@EVERY_ORDER
@EVERY_WEIGHTS
@pytest.mark.parametrize("path", ["loop", "batched", "explicit"])
def test_meta_gradient_is_that_of_a_loop_written_by_hand(rates, first_order, step_weights, path):
    objective, meta = problem(learned(rates), first_order=first_order)
    found = meta_gradient(objective, meta, EPISODE, Execution(path, 2), step_weights).gradients
    expected = unrolled(meta, rates, first_order=first_order, step_weights=step_weights)
    # The same sums in another order: 1e-16, grown through three steps.
    assert relative_error(found, expected) < 1e-10
    assert all(value.all() for name, value in found.items() if name.endswith("rate"))


def test_first_order_gradient_of_a_rate_is_the_closed_form():
    # One step phi = theta - r g, g a constant: dL_Q/dr = -<g, grad L_Q(phi)>. First order leaves it as it is.
    objective, meta = problem(with_rates(Identity(), "tensor", lr=LR, num_steps=1), first_order=True)
    inner = InnerLoop(objective.inner.adapted, LR, 1, first_order=True, transform=objective.inner.transform)
    task = EPISODE.tasks(0, 1)
    found = meta_gradient(MetaObjective(NETWORK, inner), meta, task, Execution()).gradients
    support_x, support_y, query_x, query_y = (part[0] for part in task.data())

    def slopes(params, x, y):
        at = leaves(params)
        return dict(zip(at, grad(example_loss(apply_network(NETWORK, at, x), y), list(at.values())), strict=True))

    inner_slopes = slopes(meta.model, support_x, support_y)
    phi = {name: value - meta.transform[f"{name}/rate"] * inner_slopes[name] for name, value in meta.model.items()}
    outer_slopes = slopes(phi, query_x, query_y)
    for name, slope in inner_slopes.items():
        expected = -(slope * outer_slopes[name]).sum()
        assert found[f"transform/{name}/rate"] == pytest.approx(float(expected), rel=1e-11)
