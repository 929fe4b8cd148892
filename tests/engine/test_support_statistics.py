"""Batch norm by the support set alone: what is normalised by what, in every path of execution."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from mamlcli.engine import execution
from mamlcli.engine.execution import Execution
from mamlcli.engine.explicit import objective as explicit_objective
from mamlcli.engine.explicit.network import TaskNetwork
from mamlcli.engine.networks import NORM_EPSILON, apply_network
from mamlcli.engine.objective import TRAJECTORY_COLUMNS, MetaObjective, MetaParams
from mamlcli.engine.rates import with_rates
from mamlcli.engine.support_statistics import with_statistics_of_first
from mamlcli.tasks.episodes import Episode
from tests.helpers.numerics import normal, trajectories
from tests.helpers.problems import LOOP, LR, NETWORKS, NUM_STEPS, NUM_TASKS, SAME_SUMS, TRANSFORMS, problem

WITH_BATCH_NORM = ("cnn-pool", "cnn-stride")
QUERY_LOSS = TRAJECTORY_COLUMNS.index("query_loss")
IS_OF_SUPPORT = [name.startswith("support") for name in TRAJECTORY_COLUMNS]


def scored_by_support(name, algorithm="maml", **settings):
    """Return (objective, meta-parameters, tasks) of a network with batch norm, scored by the support set."""
    objective, meta, episode = problem(NETWORKS[name](), algorithm, **settings)
    return MetaObjective(objective.network, replace(objective.inner, support_statistics=True)), meta, episode


def one_query(episode, index):
    """Return the tasks with one of their query images alone."""
    query_x, query_y = (part[:, index : index + 1] for part in (episode.query_x, episode.query_y))
    return Episode(episode.support_x, episode.support_y, query_x, query_y, truth={})


def test_statistics_are_those_of_the_first_images_and_images_after_them_are_normalised_by_them():
    objective, meta, _ = problem(NETWORKS["cnn-stride"]())
    network = objective.network
    x = normal(7, *network.input_shape, key="images")
    outputs = apply_network(with_statistics_of_first(network, 4), meta.model, x)
    torch.testing.assert_close(outputs[:4], apply_network(network, meta.model, x[:4]))
    assert not torch.allclose(outputs[4:], apply_network(network, meta.model, x)[4:])


def test_first_layer_is_torchs_batch_norm_with_the_mean_and_variance_of_the_support():
    objective, meta, episode = problem(NETWORKS["cnn-stride"]())
    params, (support, _, query, _) = meta.model, (part[0] for part in episode.data())
    convolved = [
        functional.conv2d(x, params["body.0.conv.weight"], params["body.0.conv.bias"], stride=2, padding=1)
        for x in (support, query)
    ]
    variance, mean = torch.var_mean(convolved[0], dim=(0, 2, 3), correction=0)
    scale_and_shift = params["body.0.norm.weight"], params["body.0.norm.bias"]
    expected = functional.batch_norm(convolved[1], mean, variance, *scale_and_shift, eps=NORM_EPSILON).relu()
    block = with_statistics_of_first(objective.network, len(support)).body[0]
    of_block = {name.removeprefix("body.0."): value for name, value in params.items() if name.startswith("body.0.")}
    found = torch.func.functional_call(block, of_block, (torch.cat([support, query]),))[len(support) :]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("path", ["loop", "batched", "explicit"])
@pytest.mark.parametrize("algorithm", ["maml", "anil"])
@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_query_images_scored_one_at_a_time_have_the_same_scores(name, algorithm, path):
    objective, meta, episode = scored_by_support(name, algorithm)
    how = Execution(path, 1 if path == "loop" else 2)
    together = trajectories(objective, meta, episode, how)
    num_query = episode.query_x.shape[1]
    alone = [trajectories(objective, meta, one_query(episode, index), how) for index in range(num_query)]
    torch.testing.assert_close(together, torch.stack(alone).mean(dim=0), rtol=SAME_SUMS, atol=1e-12)
    by_query = MetaObjective(objective.network, replace(objective.inner, support_statistics=False))
    other = trajectories(by_query, meta, episode, how)
    assert torch.equal(other[..., IS_OF_SUPPORT], together[..., IS_OF_SUPPORT])  # the inner loop is the same
    assert not torch.allclose(other[..., QUERY_LOSS], together[..., QUERY_LOSS], rtol=1e-3)


@pytest.mark.parametrize("transform", ["none", "meta-curvature", "kfo"])
@pytest.mark.parametrize("patterns", [None, ["body.*"], ["*.bias"], ["head.*"]])
@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_every_path_has_the_loops_scores(name, patterns, transform):
    case = scored_by_support(name, transform=TRANSFORMS[transform], adapt_patterns=patterns)
    expected = trajectories(*case, LOOP)
    for how in (Execution("batched", 3), Execution("explicit", 2), Execution("explicit", 5)):
        torch.testing.assert_close(trajectories(*case, how), expected, rtol=SAME_SUMS, atol=1e-12)


@pytest.mark.parametrize("transform", ["none", "meta-sgd", "meta-curvature", "kfo-mlp", "dense"])
@pytest.mark.parametrize(("rates", "head"), [("fixed", "shared"), ("tensor-step", "learned"), ("tensor-step", "zero")])
def test_every_path_has_the_loops_scores_with_rates_and_starts_of_the_output_layer(rates, head, transform):
    learned = with_rates(TRANSFORMS[transform], rates, lr=LR, num_steps=NUM_STEPS)
    case = scored_by_support("cnn-stride", transform=learned, head=head)
    expected = trajectories(*case, LOOP)
    for how in (Execution("batched", 3), Execution("explicit", 2)):
        torch.testing.assert_close(trajectories(*case, how), expected, rtol=SAME_SUMS, atol=1e-12)


@pytest.mark.parametrize("algorithm", ["maml", "anil"])
def test_network_of_support_statistics_is_made_once_for_all_chunks(algorithm, monkeypatch):
    made = []

    class Counted(TaskNetwork):
        def __init__(self, network, **keys):
            made.append(network)
            super().__init__(network, **keys)

    monkeypatch.setattr(explicit_objective, "TaskNetwork", Counted)
    case = scored_by_support("cnn-stride", algorithm)
    trajectories(*case, Execution("explicit", NUM_TASKS))
    in_one_chunk = len(made)
    trajectories(*case, Execution("explicit", 1))
    assert len(made) == in_one_chunk


def test_runs_scored_together_have_the_scores_of_each():
    objective, meta, episode = scored_by_support("cnn-stride")
    moved = MetaParams.from_flat({name: 1.1 * value for name, value in meta.flat().items()})
    together = execution.trajectories(objective, [meta, moved], episode, Execution("explicit", 4))
    for of_run, found in zip((meta, moved), together, strict=True):
        torch.testing.assert_close(found, trajectories(objective, of_run, episode, LOOP), rtol=SAME_SUMS, atol=1e-12)
