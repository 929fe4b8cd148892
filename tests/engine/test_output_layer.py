"""Output layers that start at zero, or with one row for all classes: what is learned of them, and its gradient."""

import math

import pytest
import torch
from torch.autograd import grad
from torch.func import functional_call
from torch.nn import functional

from mamlcli.engine.execution import Execution, meta_gradients
from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import linear, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams, inner_loop_for
from mamlcli.engine.output_layer import output_layer_names, start_params, stored_params
from tests.helpers.numerics import (
    DOUBLE,
    directional_error,
    leaves,
    meta_gradient,
    normal,
    regression_episode,
    relative_error,
    trajectories,
)
from tests.helpers.problems import (
    LOOP,
    NETWORKS,
    SAME_SUMS,
    TRANSFORMS,
    WAYS,
    assert_same_meta_gradient,
    problem,
)

HEADS = ("zero", "shared")
EVERY_HEAD = pytest.mark.parametrize("head", HEADS)
NETWORK = mlp((4,), WAYS, depth=1, width=5, activation="tanh", linear_layers=1)


# What is learned, and what it stands for -------------------------------------------------------------------


def test_output_layer_is_the_last_layer_of_the_head():
    assert output_layer_names(NETWORK) == ("head.1.weight", "head.1.bias")
    assert output_layer_names(linear((4,), 2, depth=3, bias=False)) == ("head.2.weight",)


def test_learned_head_is_stored_as_it_is():
    params = initial_params(NETWORK, init="torch", seed=0)
    assert stored_params(NETWORK, "learned", params) == params
    assert start_params(NETWORK, "learned", params) == params


def test_zero_head_is_no_meta_parameter():
    params = initial_params(NETWORK, init="torch", seed=0)
    stored = stored_params(NETWORK, "zero", params)
    assert set(params) - set(stored) == {"head.1.weight", "head.1.bias"}
    start = start_params(NETWORK, "zero", stored)
    assert {name: value.shape for name, value in start.items()} == {name: v.shape for name, v in params.items()}
    assert not start["head.1.weight"].any()
    assert not start["head.1.bias"].any()
    assert torch.equal(start["body.0.weight"], params["body.0.weight"])


def test_shared_head_is_one_row_for_all_classes():
    params = initial_params(NETWORK, init="torch", seed=0)
    stored = stored_params(NETWORK, "shared", params)
    assert (stored["head.1.weight"].shape, stored["head.1.bias"].shape) == ((1, 5), (1,))
    start = start_params(NETWORK, "shared", stored)
    assert torch.equal(start["head.1.weight"], params["head.1.weight"][:1].expand(WAYS, -1))
    assert torch.equal(start["head.1.bias"], params["head.1.bias"][:1].expand(WAYS))


@pytest.mark.parametrize("head", ["learned", *HEADS])
def test_runs_trained_together_have_each_its_start(head):
    stored = [stored_params(NETWORK, head, initial_params(NETWORK, init="torch", seed=seed)) for seed in (0, 1)]
    stacked = {name: torch.stack([of_run[name] for of_run in stored]) for name in stored[0]}
    starts = start_params(NETWORK, head, stacked)
    for index, of_run in enumerate(stored):
        alone = start_params(NETWORK, head, of_run)
        assert {name: value[index].tolist() for name, value in starts.items()} == {
            name: value.tolist() for name, value in alone.items()
        }


@pytest.mark.parametrize("is_stacked", [False, True])
def test_fewer_outputs_than_were_learned_are_the_first(is_stacked):
    fewer = mlp((4,), 2, depth=1, width=5, activation="tanh", linear_layers=1)
    params = initial_params(NETWORK, init="torch", seed=0)
    stored = {name: value.expand(2, *value.shape) for name, value in params.items()} if is_stacked else params
    start = start_params(fewer, "learned", stored)
    assert torch.equal(start["head.1.weight"].expand(2, 2, 5)[1], params["head.1.weight"][:2])
    assert torch.equal(start["head.1.bias"].expand(2, 2)[1], params["head.1.bias"][:2])


# Gradients -------------------------------------------------------------------------------------------------


@EVERY_HEAD
@pytest.mark.parametrize("algorithm", ["maml", "anil"])
def test_meta_gradient_matches_finite_differences(head, algorithm):
    objective, meta, episode = problem(NETWORK, algorithm, head=head)
    gradients = meta_gradient(objective, meta, episode, LOOP).gradients

    def outer_loss(flat):
        model = MetaParams.from_flat(flat).model
        tasks = [tuple(part[i] for part in episode.data()) for i in range(episode.num_tasks)]
        return sum(objective.outer_loss(model, {}, *task)[0] for task in tasks) / episode.num_tasks

    assert ("model/head.1.weight" in gradients) == (head == "shared")
    for key in range(4):
        assert directional_error(outer_loss, gradients, meta.flat(), key=key) < 1e-7


@EVERY_HEAD
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_equals_the_unrolled_loop(head, first_order):
    objective, meta, episode = problem(NETWORK, "fomaml" if first_order else "maml", head=head)
    found = meta_gradient(objective, meta, episode, LOOP).gradients
    total = {name: torch.zeros_like(value) for name, value in meta.flat().items()}
    for support_x, support_y, query_x, query_y in zip(*episode.data(), strict=True):
        theta = leaves(meta.model)
        phi = dict(theta)
        if head == "zero":
            phi["head.1.weight"] = torch.zeros(WAYS, 5, dtype=DOUBLE, requires_grad=True)
            phi["head.1.bias"] = torch.zeros(WAYS, dtype=DOUBLE, requires_grad=True)
        else:
            phi["head.1.weight"] = torch.cat([theta["head.1.weight"]] * WAYS)
            phi["head.1.bias"] = torch.cat([theta["head.1.bias"]] * WAYS)
        for _ in range(objective.inner.num_inner_steps):
            loss = functional.cross_entropy(functional_call(NETWORK, phi, (support_x,)), support_y)
            slopes = grad(loss, list(phi.values()), create_graph=not first_order)
            phi = {
                name: value - objective.inner.lr * slope
                for (name, value), slope in zip(phi.items(), slopes, strict=True)
            }
        loss = functional.cross_entropy(functional_call(NETWORK, phi, (query_x,)), query_y)
        for name, slope in zip(theta, grad(loss, list(theta.values())), strict=True):
            total[f"model/{name}"] += slope / episode.num_tasks
    assert relative_error(found, total) < SAME_SUMS


def test_shared_head_has_the_scores_of_zero_and_is_not_trained():
    objective, meta, episode = problem(NETWORK, head="shared")
    moved = {name: value + 3 if name.startswith("head.1") else value for name, value in meta.model.items()}
    zero, without, _ = problem(NETWORK, head="zero")
    for model in (meta.model, moved):
        scores = trajectories(objective, MetaParams(model, {}), episode, LOOP)
        expected = trajectories(zero, without, episode, LOOP)
        torch.testing.assert_close(scores, expected, rtol=1e-12, atol=1e-13)
    gradients = meta_gradient(objective, meta, episode, LOOP).gradients
    assert not any(gradients[f"model/head.1.{name}"].any() for name in ("weight", "bias"))


def test_shared_row_has_the_sum_of_the_rows_gradients():
    objective, meta, episode = problem(NETWORK, head="shared")
    shared = meta_gradient(objective, meta, episode, LOOP).gradients
    rows = meta_gradient(*objective.with_learned_head(meta), episode, LOOP).gradients
    of_rows = ("model/head.1.weight", "model/head.1.bias")
    summed = {name: value.sum(0, keepdim=True) if name in of_rows else value for name, value in rows.items()}
    assert relative_error(shared, summed) < SAME_SUMS


@EVERY_HEAD
def test_regression_has_the_same_meta_gradient_on_every_path(head):
    network = mlp((4,), 1, depth=1, width=5, activation="tanh")
    objective, meta, _ = problem(network, head=head)
    episode = regression_episode(4, num_tasks=3)
    expected = meta_gradient(objective, meta, episode, LOOP).gradients
    for path in ("batched", "explicit"):
        found = meta_gradient(objective, meta, episode, Execution(path, 2)).gradients
        assert relative_error(found, expected) < SAME_SUMS


# One row for all classes: no output differs from another ---------------------------------------------------


@EVERY_HEAD
def test_all_classes_are_as_likely_before_the_first_step(head):
    scores = trajectories(*problem(NETWORK, head=head), LOOP)
    assert torch.allclose(scores[:, 0, ::2], torch.tensor(math.log(WAYS), dtype=DOUBLE))
    assert (scores[:, -1, 2] - math.log(WAYS)).abs().min() > 1e-3


def test_body_has_no_gradient_in_the_first_step_from_zero():
    objective, meta, episode = problem(NETWORK, head="zero")
    one_step = MetaObjective(NETWORK, inner_loop_for("maml", NETWORK, lr=0.2, num_inner_steps=1, head="zero"))
    task = [part[0] for part in episode.data()]
    first = one_step.fast_weights(meta.model, {}, *task[:2])
    second = objective.fast_weights(meta.model, {}, *task[:2])
    for name in ("body.0.weight", "body.0.bias", "head.0.weight", "head.0.bias"):
        assert torch.equal(first[name], meta.model[name])
        assert not torch.equal(second[name], meta.model[name])
    assert first["head.1.weight"].abs().max() > 1e-3


@EVERY_HEAD
@pytest.mark.parametrize("path", ["loop", "batched", "explicit"])
def test_order_of_the_classes_permutes_the_outputs_and_changes_no_score(head, path):
    objective, meta, episode = problem(NETWORK, head=head)
    order = torch.tensor([2, 0, 1])
    other = type(episode)(
        episode.support_x, order[episode.support_y], episode.query_x, order[episode.query_y], truth={}
    )
    how = Execution(path, 2)
    expected, found = (trajectories(objective, meta, tasks, how) for tasks in (episode, other))
    assert torch.allclose(found, expected, rtol=1e-12)
    # A learned head, of rows that differ, scores otherwise.
    learned = problem(NETWORK)
    assert not torch.allclose(trajectories(*learned[:2], episode, how), trajectories(*learned[:2], other, how))

    task, changed = ([part[0] for part in tasks.data()] for tasks in (episode, other))
    x = normal(6, 4, key="images")
    outputs = [functional_call(NETWORK, objective.fast_weights(meta.model, {}, *t[:2]), (x,)) for t in (task, changed)]
    assert torch.allclose(outputs[1][:, order], outputs[0], rtol=1e-12)


# Every path, order, memory and transform -------------------------------------------------------------------


@EVERY_HEAD
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
@pytest.mark.parametrize("is_adapted", [False, True])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_every_path_and_memory_has_the_loops_meta_gradient(head, algorithm, is_adapted, transform):
    network = NETWORKS["cnn-stride"]()
    case = problem(network, algorithm, transform, head=head, adapt_transform=is_adapted)
    assert_same_meta_gradient(case, chunk_sizes=[2])
    constant, _, _ = problem(network, algorithm, transform, head=head, adapt_transform=is_adapted, recompute=True)
    expected = meta_gradient(*case, LOOP).gradients
    for execution in (LOOP, Execution("explicit", 3)):
        found = meta_gradient(constant, *case[1:], execution).gradients
        assert relative_error(found, expected) < SAME_SUMS


@EVERY_HEAD
@pytest.mark.parametrize("name", NETWORKS)
def test_every_path_has_the_loops_trajectories(head, name):
    case = problem(NETWORKS[name](), head=head)
    expected = trajectories(*case, LOOP)
    for path in ("batched", "explicit"):
        assert torch.allclose(trajectories(*case, Execution(path, 2)), expected, rtol=SAME_SUMS, atol=0)


@EVERY_HEAD
@pytest.mark.parametrize("algorithm", ["maml", "anil"])
@pytest.mark.parametrize("transform", ["none", "kfo", "dense"])
def test_runs_trained_together_have_each_its_meta_gradient(head, algorithm, transform):
    objective, meta, episode = problem(NETWORK, algorithm, TRANSFORMS[transform], head=head)
    other = MetaParams.from_flat({name: 1.1 * value for name, value in meta.flat().items()})
    tasks = episode.tasks(0, 4)
    together = meta_gradients(objective, [meta, other], tasks, Execution("explicit", 4))
    for index, of_run in enumerate((meta, other)):
        alone = meta_gradient(objective, of_run, tasks.tasks(2 * index, 2 * index + 2), LOOP)
        assert relative_error(together[index].gradients, alone.gradients) < SAME_SUMS
