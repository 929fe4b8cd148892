"""Meta-gradients of whole networks: finite differences, an unrolled loop, and `higher` as an outside opinion."""

import contextlib

import higher
import pytest
import torch
from torch import nn
from torch.autograd import grad
from torch.func import functional_call

from mamlcli.common.errors import MamlError
from mamlcli.engine.execution import Execution
from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import apply_network, cnn, linear, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams, accuracy, example_loss, inner_loop_for
from mamlcli.engine.transforms import KFO
from tests.helpers.numerics import (
    DOUBLE,
    classification_episode,
    directional_error,
    leaves,
    meta_gradient,
    normal,
    perturbed,
    regression_episode,
    relative_error,
)

LR, NUM_STEPS, WAYS = 0.2, 3, 3

NETWORKS = {
    "tanh-mlp": lambda: mlp((4,), WAYS, depth=2, width=5, activation="tanh"),
    "cnn": lambda: cnn((1, 6, 6), WAYS, depth=2, width=4),
    "cnn-pool-flatten": lambda: cnn((1, 6, 6), WAYS, depth=1, width=4, pool=2, head="flatten"),
    "cnn-linear-layers": lambda: cnn((1, 6, 6), WAYS, depth=1, width=4, linear_layers=1),
}
EVERY_NETWORK = pytest.mark.parametrize("name", NETWORKS)


def problem(name, *, num_tasks=2):
    """Return a network, its parameters with no zeros among them, and an episode."""
    network = NETWORKS[name]()
    params = perturbed(initial_params(network, init="release", seed=0, dtype=DOUBLE), scale=0.1)
    return network, params, classification_episode(network.input_shape, num_tasks=num_tasks, ways=WAYS)


def found_gradient(network, params, episode, algorithm, **settings):
    """Return our meta-gradient of the model, by parameter name."""
    inner = inner_loop_for(algorithm, network, lr=LR, num_inner_steps=NUM_STEPS, **settings)
    result = meta_gradient(MetaObjective(network, inner), MetaParams(params, {}), episode, Execution())
    return {name.removeprefix("model/"): value for name, value in result.gradients.items()}


def averaged_over_tasks(one_task, params, episode):
    """Return the mean over tasks of `one_task(theta, support_x, ..., query_y)`, a scalar's gradient in theta."""
    total = {name: torch.zeros_like(value) for name, value in params.items()}
    for i in range(episode.num_tasks):
        theta = leaves(params)
        loss = one_task(theta, *(part[i] for part in episode.data()))
        slopes = grad(loss, list(theta.values()), allow_unused=True)
        for name, slope in zip(theta, slopes, strict=True):
            total[name] += 0 if slope is None else slope / episode.num_tasks
    return total


# Finite differences


@EVERY_NETWORK
@pytest.mark.parametrize("algorithm", ["maml", "anil", "boil"])
def test_meta_gradient_matches_finite_differences(name, algorithm):
    network, params, episode = problem(name)
    objective = MetaObjective(network, inner_loop_for(algorithm, network, lr=LR, num_inner_steps=NUM_STEPS))
    gradients = found_gradient(network, params, episode, algorithm)

    def outer_loss(model):
        tasks = [tuple(part[i] for part in episode.data()) for i in range(episode.num_tasks)]
        return sum(objective.outer_loss(model, {}, *task)[0] for task in tasks) / episode.num_tasks

    # ReLU makes the outer loss of MAML jump where a unit switches (the inner gradient jumps with it). With steps
    # of 1e-6 these seeds cross no switch; a jump would show as an error of order one.
    for key in range(4):
        assert directional_error(outer_loss, gradients, params, key=key) < 1e-7


# The same loop, written out


def unrolled(network, adapted, *, first_order=False, num_inner_steps=NUM_STEPS):
    """Return one task's outer loss as a function of theta: plain autograd through the module, name by name."""

    def one_task(theta, support_x, support_y, query_x, query_y):
        phi = {name: theta[name] for name in adapted}
        for _ in range(num_inner_steps):
            outputs = functional_call(network, {**theta, **phi}, (support_x,))
            slopes = grad(nn.functional.cross_entropy(outputs, support_y), list(phi.values()), create_graph=True)
            phi = {
                name: value - LR * (slope.detach() if first_order else slope)
                for (name, value), slope in zip(phi.items(), slopes, strict=True)
            }
        outputs = functional_call(network, {**theta, **phi}, (query_x,))
        return nn.functional.cross_entropy(outputs, query_y)

    return one_task


# The reference makes the same sums, some in another order; errors of 1e-16 grow a little through three steps and
# the batch norm.
SAME_SUMS = 1e-10


@EVERY_NETWORK
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil", "anil first order", "boil", "boil first order"])
def test_meta_gradient_equals_the_unrolled_loop(name, algorithm):
    network, params, episode = problem(name)
    algorithm, _, order = algorithm.partition(" ")
    first_order = bool(order) or algorithm == "fomaml"
    parts = {"anil": ("head.",), "boil": ("body.",)}.get(algorithm, ("body.", "head."))
    adapted = [name for name in network.parameter_names() if name.startswith(parts)]
    expected = averaged_over_tasks(unrolled(network, adapted, first_order=first_order), params, episode)
    found = found_gradient(network, params, episode, algorithm, first_order=bool(order))
    assert relative_error(found, expected) < SAME_SUMS


@EVERY_NETWORK
def test_second_order_matters_here(name):
    # Guards the tests around it: if MAML and FOMAML agreed on these networks, they could not tell them apart.
    network, params, episode = problem(name)
    maml, fomaml, anil = (
        found_gradient(network, params, episode, algorithm) for algorithm in ("maml", "fomaml", "anil")
    )
    assert relative_error(fomaml, maml) > 1e-2
    assert relative_error(anil, maml) > 1e-2


def test_regression_meta_gradient_equals_the_unrolled_loop():
    network = mlp((3,), 1, depth=1, width=5)
    params = initial_params(network, init="torch", seed=0, dtype=DOUBLE)
    episode = regression_episode(3, num_tasks=2)

    def one_task(theta, support_x, support_y, query_x, query_y):
        phi = theta
        for _ in range(NUM_STEPS):
            residual = functional_call(network, phi, (support_x,)) - support_y
            slopes = grad(residual.square().mean() / 2, list(phi.values()), create_graph=True)
            phi = {name: value - LR * slope for (name, value), slope in zip(phi.items(), slopes, strict=True)}
        return (functional_call(network, phi, (query_x,)) - query_y).square().mean() / 2

    expected = averaged_over_tasks(one_task, params, episode)
    assert relative_error(found_gradient(network, params, episode, "maml"), expected) < SAME_SUMS


@EVERY_NETWORK
def test_fomaml_is_the_query_gradient_at_the_fast_weights(name):
    network, params, episode = problem(name, num_tasks=1)
    support_x, support_y, query_x, query_y = (part[0] for part in episode.data())
    phi = leaves(params)
    for _ in range(NUM_STEPS):
        loss = example_loss(apply_network(network, phi, support_x), support_y)
        slopes = grad(loss, list(phi.values()))
        phi = leaves({name: value - LR * slope for (name, value), slope in zip(phi.items(), slopes, strict=True)})
    loss = example_loss(apply_network(network, phi, query_x), query_y)
    expected = dict(zip(phi, grad(loss, list(phi.values())), strict=True))
    assert relative_error(found_gradient(network, params, episode, "fomaml"), expected) < SAME_SUMS


# An outside opinion


def plain_network(name):
    """Return (body, head) of the same architecture in torch's own modules, its parameters in the same order."""

    def norm(width):
        return nn.BatchNorm2d(width, track_running_stats=False)

    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    body, head = {
        "tanh-mlp": lambda: (
            [nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh()],
            [nn.Linear(5, WAYS)],
        ),
        "cnn": lambda: (
            [
                nn.Conv2d(1, 4, 3, padding=1),
                norm(4),
                nn.ReLU(),
                nn.Conv2d(4, 4, 3, padding=1),
                norm(4),
                nn.ReLU(),
                mean,
            ],
            [nn.Linear(4, WAYS)],
        ),
        "cnn-pool-flatten": lambda: (
            [nn.Conv2d(1, 4, 3, padding=1), norm(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()],
            [nn.Linear(36, WAYS)],
        ),
        "cnn-linear-layers": lambda: (
            [nn.Conv2d(1, 4, 3, padding=1), norm(4), nn.ReLU(), mean],
            [nn.Linear(4, 4), nn.Linear(4, WAYS)],
        ),
    }[name]()
    return nn.Sequential(*body).double(), nn.Sequential(*head).double()


@contextlib.contextmanager
def higher_copy(module, *, second_order):
    optimizer = torch.optim.SGD(module.parameters(), lr=LR)
    with higher.innerloop_ctx(module, optimizer, copy_initial_weights=False, track_higher_grads=second_order) as pair:
        yield pair


def higher_gradient(name, params, episode, algorithm):
    """Return the meta-gradient by `higher` (Grefenstette et al. 2019), by our parameter names."""
    body, head = plain_network(name)
    whole = nn.Sequential(body, head)
    with torch.no_grad():
        for parameter, value in zip(whole.parameters(), params.values(), strict=True):
            parameter.copy_(value)
    total = {key: torch.zeros_like(value) for key, value in params.items()}
    loss_of = nn.functional.cross_entropy
    for i in range(episode.num_tasks):
        support_x, support_y, query_x, query_y = (part[i] for part in episode.data())
        if algorithm == "anil":
            support_x, query_x = body(support_x), body(query_x)
        with higher_copy(head if algorithm == "anil" else whole, second_order=algorithm != "fomaml") as (
            fast,
            inner,
        ):
            for _ in range(NUM_STEPS):
                inner.step(loss_of(fast(support_x), support_y))
            loss = loss_of(fast(query_x), query_y)
            # Without higher gradients the fast weights are cut from their start: its gradient is theirs.
            inputs = fast.parameters() if algorithm == "fomaml" else whole.parameters()
            slopes = grad(loss, list(inputs))
        for key, slope in zip(total, slopes, strict=True):
            total[key] += slope / episode.num_tasks
    return total


@EVERY_NETWORK
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
def test_meta_gradient_equals_higher(name, algorithm):
    network, params, episode = problem(name)
    expected = higher_gradient(name, params, episode, algorithm)
    # Torch's fused batch norm and another graph: rounding of 1e-16, grown through three steps.
    assert relative_error(found_gradient(network, params, episode, algorithm), expected) < 1e-8


# ANIL


def test_anil_on_a_linear_network_is_maml():
    network = linear((1, 2, 3), WAYS, depth=2)
    params = initial_params(network, init="torch", seed=0, dtype=DOUBLE)
    episode = classification_episode((1, 2, 3), num_tasks=2, ways=WAYS)
    maml, anil = (found_gradient(network, params, episode, algorithm) for algorithm in ("maml", "anil"))
    assert relative_error(anil, maml) < SAME_SUMS


@EVERY_NETWORK
def test_anil_adapts_the_head_alone(name):
    network, params, episode = problem(name, num_tasks=1)
    inner = inner_loop_for("anil", network, lr=LR, num_inner_steps=NUM_STEPS)
    assert inner.adapted == network.head_parameter_names()
    assert all(name.startswith("head.") for name in inner.adapted)
    # The body is meta-learned all the same, through support and query features.
    gradients = found_gradient(network, params, episode, "anil")
    assert gradients[network.parameter_names()[0]].abs().max() > 1e-4


@EVERY_NETWORK
def test_anil_is_maml_with_the_heads_pattern(name):
    network, params, episode = problem(name)
    anil = found_gradient(network, params, episode, "anil")
    by_pattern = found_gradient(network, params, episode, "maml", adapt_patterns=["head.*"])
    assert relative_error(by_pattern, anil) == 0


def test_anil_passes_the_body_once_per_set(monkeypatch):
    network, params, episode = problem("cnn", num_tasks=1)
    calls = []
    forward = network.body.forward
    monkeypatch.setattr(network.body, "forward", lambda x: calls.append(len(x)) or forward(x))
    found_gradient(network, params, episode, "anil")
    assert calls == [episode.support_x.shape[1], episode.query_x.shape[1]]
    calls.clear()
    found_gradient(network, params, episode, "anil", joint_features=True)
    assert calls == [episode.support_x.shape[1] + episode.query_x.shape[1]]


def test_joint_features_normalise_support_and_query_together():
    network, params, episode = problem("cnn")

    def one_task(theta, support_x, support_y, query_x, query_y):
        features = functional_call(network, theta, (torch.cat([support_x, query_x]),), {"part": "body"})
        support, query = features[: len(support_x)], features[len(support_x) :]
        weight, bias = theta["head.0.weight"], theta["head.0.bias"]
        for _ in range(NUM_STEPS):
            loss = nn.functional.cross_entropy(support @ weight.T + bias, support_y)
            slopes = grad(loss, [weight, bias], create_graph=True)
            weight, bias = weight - LR * slopes[0], bias - LR * slopes[1]
        return nn.functional.cross_entropy(query @ weight.T + bias, query_y)

    joint = found_gradient(network, params, episode, "anil", joint_features=True)
    assert relative_error(joint, averaged_over_tasks(one_task, params, episode)) < SAME_SUMS
    separate = found_gradient(network, params, episode, "anil")
    assert relative_error(joint, separate) > 1e-2


def test_joint_features_change_nothing_without_batch_norm():
    network = cnn((1, 6, 6), WAYS, depth=2, width=4, norm="group")
    params = initial_params(network, init="release", seed=0, dtype=DOUBLE)
    episode = classification_episode((1, 6, 6), num_tasks=2, ways=WAYS)
    joint = found_gradient(network, params, episode, "anil", joint_features=True)
    assert relative_error(joint, found_gradient(network, params, episode, "anil")) < SAME_SUMS


# Patterns and what is refused


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.bias"], ("body.0.bias", "body.2.bias", "head.0.bias")),
        (["head.*", "body.2.weight"], ("body.2.weight", "head.0.weight", "head.0.bias")),
        (["body.*"], ("body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias")),
        (["head.0.bias"], ("head.0.bias",)),
    ],
)
def test_patterns_name_the_parameters_that_adapt(patterns, expected):
    network, params, episode = problem("tanh-mlp")
    inner = inner_loop_for("maml", network, lr=LR, num_inner_steps=1, adapt_patterns=patterns)
    assert inner.adapted == expected
    found = found_gradient(network, params, episode, "maml", adapt_patterns=patterns)
    reference = averaged_over_tasks(unrolled(network, expected), params, episode)
    assert relative_error(found, reference) < SAME_SUMS


def test_anil_refuses_to_adapt_the_body():
    network = NETWORKS["cnn"]()
    with pytest.raises(MamlError, match=r"inner\.adapt: .*head.*body\.0\.conv\.bias.*inner\.algorithm=maml"):
        inner_loop_for("anil", network, lr=LR, num_inner_steps=1, adapt_patterns=["*.bias"])


def test_anil_takes_a_part_of_the_head():
    network, params, episode = problem("cnn-linear-layers")
    found = found_gradient(network, params, episode, "anil", adapt_patterns=["head.1.*"])
    reference = averaged_over_tasks(unrolled(network, ("head.1.weight", "head.1.bias")), params, episode)
    assert relative_error(found, reference) < SAME_SUMS


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
def test_joint_features_are_refused_where_the_body_adapts(algorithm):
    with pytest.raises(MamlError, match=r"inner\.joint_features: expected false where the body adapts"):
        inner_loop_for(algorithm, NETWORKS["cnn"](), lr=LR, num_inner_steps=1, joint_features=True)


def test_pattern_that_matches_nothing_is_refused():
    with pytest.raises(MamlError, match=r"inner\.adapt: .*'tail\.\*'"):
        inner_loop_for("maml", NETWORKS["cnn"](), lr=LR, num_inner_steps=1, adapt_patterns=["tail.*"])


# Losses, accuracies, meta-parameters


def test_classification_loss_is_the_mean_cross_entropy():
    outputs, targets = normal(4, 3), torch.tensor([0, 2, 1, 1])
    by_hand = torch.stack([row.exp().sum().log() - row[t] for row, t in zip(outputs, targets, strict=True)])
    assert torch.allclose(example_loss(outputs, targets), by_hand.mean(), rtol=1e-14)


def test_regression_loss_is_half_the_mean_squared_error():
    outputs = torch.tensor([[1.0], [3.0]], dtype=DOUBLE)
    targets = torch.tensor([[0.0], [1.0]], dtype=DOUBLE)
    # (1^2 + 2^2) / 2 / 2
    assert float(example_loss(outputs, targets)) == 1.25


def test_accuracy_is_a_fraction_and_not_a_number_for_regression():
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]], dtype=DOUBLE)
    assert float(accuracy(outputs, torch.tensor([0, 1, 1, 1]))) == 0.75
    assert accuracy(outputs[:, :1], outputs[:, 1:]).isnan()


def test_accuracy_is_of_the_query_set_at_the_fast_weights():
    network, params, episode = problem("tanh-mlp", num_tasks=1)
    inner = inner_loop_for("maml", network, lr=LR, num_inner_steps=NUM_STEPS)
    task = tuple(part[0] for part in episode.data())
    _, found = MetaObjective(network, inner).outer_loss(params, {}, *task)
    phi = leaves(params)
    for _ in range(NUM_STEPS):
        slopes = grad(example_loss(apply_network(network, phi, task[0]), task[1]), list(phi.values()))
        phi = leaves({name: phi[name] - LR * slope for name, slope in zip(phi, slopes, strict=True)})
    guesses = apply_network(network, phi, task[2]).argmax(dim=1)
    assert float(found) == float((guesses == task[3]).double().mean())


def test_flat_meta_parameters_come_back():
    network = NETWORKS["cnn"]()
    params = initial_params(network, init="release", seed=0)
    meta = MetaParams(params, KFO().init(params, 0))
    flat = meta.flat()
    assert len(flat) == len(meta.model) + len(meta.transform)
    assert "model/body.0.conv.weight" in flat
    assert "transform/body.0.conv.weight/left" in flat
    back = MetaParams.from_flat(flat)
    assert back.model.keys() == meta.model.keys()
    assert all(back.transform[name] is value for name, value in meta.transform.items())
