"""A first linear layer whose weights move in the span of the support inputs: the steps of the ordinary layer."""

from dataclasses import replace

import pytest
import torch

from mamlcli.engine.execution import Execution, trajectories
from mamlcli.engine.explicit.input_linear import TaskInputLinear, span_inputs, with_input_in_span
from mamlcli.engine.explicit.layers import TaskFlatten, TaskLinear, TaskReLU
from mamlcli.engine.explicit.network import TaskNetwork
from mamlcli.engine.explicit.objective import explicit_objective
from mamlcli.engine.networks import cnn, linear
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.engine.transforms import KFO
from tests.helpers.numerics import meta_gradient, normal, relative_error
from tests.helpers.problems import LOOP, NETWORKS, SAME_SUMS, STEP_WEIGHTS, WAYS, assert_same_meta_gradient, problem

TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}
LR = 0.3
LONG = {
    **{name: NETWORKS[name] for name in ("mlp-of-long-inputs", "linear-of-larger-images")},
    "linear-of-long-inputs": lambda: linear((20,), WAYS, depth=2, width=12),
}
EVERY_LONG = pytest.mark.parametrize("name", LONG)


@EVERY_LONG
def test_long_inputs_without_a_transform_are_computed_in_the_span_and_others_are_not(name):
    def is_in_span(objective, num_support, num_query=1):
        return explicit_objective(objective, "cpu").is_in_span(num_support, num_query)

    objective, _, episode = problem(LONG[name]())
    assert is_in_span(objective, episode.support_x.shape[1], episode.query_x.shape[1])
    # As many inputs as dimensions, or more products of inputs than a step saves.
    assert not is_in_span(objective, 20)
    assert not is_in_span(objective, 5, 1000)
    assert not is_in_span(problem(LONG[name](), transform=KFO())[0], 5)
    assert not is_in_span(problem(cnn((1, 5, 5), WAYS, depth=1, width=3))[0], 5)
    assert not is_in_span(problem(LONG["mlp-of-long-inputs"](), "anil")[0], 5)


@EVERY_LONG
def test_step_and_its_derivative_are_those_of_the_weights(name):
    objective, meta, episode = problem(LONG[name]())
    keys = {"part": "all", "first": (), "device_type": "cpu"}
    plain, spanned = (TaskNetwork(objective.network, **keys, in_span=is_in) for is_in in (False, True))
    x, y, (first, *_) = episode.support_x, episode.support_y, plain.layout.names
    start = [value.expand(len(x), *value.shape) for value in plain.layout.values(meta.model)]

    def weights(s):
        return meta.model[first] + s.mT @ x.flatten(2)

    # S is moved away from zero: x W_0^T + (x X^T) S is x W^T with W = W_0 + S^T X.
    s = normal(*x.shape[:2], len(meta.model[first]), key="S")
    inputs = span_inputs(meta.model[first], x, x)
    after, kept = spanned.step([s, *start[1:]], inputs, y, LR)
    expected, kept_plainly = plain.step([weights(s), *start[1:]], plain.prepared(x), y, LR)
    torch.testing.assert_close([weights(after[0]), *after[1:]], expected, **TOLERANCE)

    # A gradient v of W = W_0 + S^T X is one of X v^T of S.
    v = [normal(*value.shape, key=f"v {i}") for i, value in enumerate(expected)]

    def of_s(of_weights):
        return x.flatten(2) @ of_weights.mT

    found, _ = spanned.step_vector(kept, [of_s(v[0]), *v[1:]], LR, with_input=False)
    pulled, _ = plain.step_vector(kept_plainly, v, LR, with_input=False)
    torch.testing.assert_close(found, [of_s(pulled[0]), *pulled[1:]], **TOLERANCE)


@EVERY_LONG
@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
@pytest.mark.parametrize("step_weights", [None, STEP_WEIGHTS], ids=["last step", "all steps"])
def test_meta_gradient_is_the_loops(name, algorithm, step_weights):
    case = problem(LONG[name](), algorithm)
    assert_same_meta_gradient(case, chunk_sizes=[1, 2, 5], paths=["explicit"], step_weights=step_weights)


@EVERY_LONG
def test_meta_gradient_in_constant_memory_is_the_loops(name):
    objective, meta, episode = problem(LONG[name]())
    constant = MetaObjective(objective.network, replace(objective.inner, recompute=True))
    found = meta_gradient(constant, meta, episode, Execution("explicit", 3))
    assert relative_error(found.gradients, meta_gradient(objective, meta, episode, LOOP).gradients) < SAME_SUMS


@EVERY_LONG
def test_scores_are_the_loops_for_one_run_and_for_several(name):
    objective, meta, episode = problem(LONG[name]())
    moved = MetaParams.from_flat({name: 1.1 * value for name, value in meta.flat().items()})
    expected = trajectories(objective, [meta, moved], episode, LOOP)
    for chunk in (1, 4, 10):
        found = trajectories(objective, [meta, moved], episode, Execution("explicit", chunk))
        torch.testing.assert_close(found, expected, **TOLERANCE)


@EVERY_LONG
def test_scores_by_statistics_of_the_support_set_are_the_loops(name):
    objective, meta, episode = problem(LONG[name]())
    scored = MetaObjective(objective.network, replace(objective.inner, support_statistics=True))
    expected, found = (trajectories(scored, [meta], episode, how) for how in (LOOP, Execution("explicit", 2)))
    torch.testing.assert_close(found, expected, **TOLERANCE)


@EVERY_LONG
def test_runs_trained_together_have_each_its_share_of_the_tasks(name):
    objective, meta, episode = problem(LONG[name]())
    explicit, first, second = explicit_objective(objective, "cpu"), episode.tasks(0, 2), episode.tasks(2, 4)
    moved = MetaParams.from_flat({name: 1.1 * value for name, value in meta.flat().items()})
    stacked = MetaParams.from_flat({n: torch.stack([v, moved.flat()[n]]) for n, v in meta.flat().items()})
    losses, _ = explicit.outer_loss(stacked.model, stacked.transform, *episode.tasks(0, 4).data())
    alone = [explicit.outer_loss(m.model, m.transform, *e.data())[0] for m, e in ((meta, first), (moved, second))]
    torch.testing.assert_close(losses, torch.cat(alone), **TOLERANCE)


def test_first_linear_layer_is_found_with_and_without_flattening():
    first, rest = TaskLinear(("weight", "bias")), TaskReLU()
    assert with_input_in_span([first, rest]) == [TaskInputLinear(("weight", "bias")), rest]
    assert with_input_in_span([TaskFlatten(), first]) == [TaskInputLinear(("weight", "bias"))]
    assert with_input_in_span([rest, first]) is None
