"""Which layers adapt: against hand-written loops, closed cases and the evaluation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlcli.analysis import (
    TaskStream,
    adapted_params,
    angle_between,
    bottom_network,
    bottom_updates,
    collapse_check,
    layer_movement,
    layer_names,
    map_tasks,
    partial_adaptation,
)
from mamlcli.estimators import TRAJECTORY_COLUMNS, MetaObjective, MetaParams, example_loss, inner_loop_for
from mamlcli.execution import Execution, trajectories
from mamlcli.linear_stack import COLLAPSE_TOLERANCE
from mamlcli.models import apply_network, cnn, initial_params, linear, mlp
from mamlcli.tasks.base import Episode, sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks
from mamlcli.transforms import KFO
from tests.numerics import DOUBLE, classification_episode, perturbed, regression_episode

LOOP, BATCHED = Execution("loop", 1), Execution("batched", 2)


def objective_and_meta(network, *, algorithm="maml", lr=0.1, num_steps=2, **settings):
    """Return an objective and meta-parameters away from the start, so that no bias is zero."""
    inner = inner_loop_for(algorithm, network, lr=lr, num_steps=num_steps, **settings)
    model = perturbed(initial_params(network, init="release", seed=0, dtype=DOUBLE), scale=0.2)
    xi = inner.transform.init({name: model[name] for name in inner.adapted}, 0)
    return MetaObjective(network, inner), MetaParams(model, xi)


def conv_case(*, linear_layers=0, depth=2, norm="batch", **settings):
    network = cnn((1, 6, 6), 3, depth=depth, width=4, norm=norm, linear_layers=linear_layers)
    episode = classification_episode((1, 6, 6), num_tasks=3, ways=3)
    return *objective_and_meta(network, **settings), [episode]


def as_float32(meta, episodes):
    model = {name: value.float() for name, value in meta.model.items()}
    singles = [Episode(e.support_x.float(), e.support_y, e.query_x.float(), e.query_y, truth={}) for e in episodes]
    return MetaParams(model, {}), singles


def test_layers_are_blocks_and_linear_layers_from_input_to_output():
    network = cnn((1, 6, 6), 3, depth=2, width=4, linear_layers=1)
    assert layer_names(network) == ("body.0", "body.1", "head.0", "head.1")
    assert layer_names(mlp((2, 3), 3, depth=2, width=4)) == ("body.1", "body.3", "head.0")


def test_task_stream_gives_the_evaluation_tasks_whatever_its_chunk():
    distribution = LinearRegressionTasks(dimension=3, shots=4, queries=2, dtype=DOUBLE)
    whole = sample_tasks(distribution, seed=5, split="test", iteration=0, indices=range(5))
    stream = TaskStream(distribution, 5, "test", 5, chunk=2)
    for _ in range(2):  # it can be gone through again
        assert torch.equal(torch.cat([episode.query_y for episode in stream]), whole.query_y)


# Movement --------------------------------------------------------------------------------------------------


def test_movement_of_one_step_is_the_learning_rate_times_the_gradient_norm():
    network = mlp((4,), 1, depth=1, width=3)
    objective, meta = objective_and_meta(network, lr=0.3, num_steps=1)
    episode = regression_episode(4, num_tasks=2)
    found = layer_movement(objective, meta, [episode], BATCHED)
    for task in range(2):
        params = {name: value.clone().requires_grad_(True) for name, value in meta.model.items()}
        example_loss(apply_network(network, params, episode.support_x[task]), episode.support_y[task]).backward()
        for index, layer in enumerate(("body.0", "head.0")):
            own = [params[f"{layer}.weight"], params[f"{layer}.bias"]]
            moved = 0.3 * math.sqrt(sum(float(p.grad.square().sum()) for p in own))
            size = math.sqrt(sum(float(p.detach().square().sum()) for p in own))
            assert found.distance[task, index] == pytest.approx(moved, rel=1e-12)
            assert found.relative[task, index] == pytest.approx(moved / size, rel=1e-12)


def test_anil_moves_the_head_alone():
    objective, meta, episodes = conv_case(algorithm="anil")
    found = layer_movement(objective, meta, episodes, BATCHED)
    assert (found.distance[:, :2] == 0).all()
    assert (found.distance[:, 2] > 0).all()


def test_a_layer_of_zeros_has_no_relative_movement():
    objective, meta = objective_and_meta(linear((3,), 1, depth=1, bias=False))
    zero = MetaParams({name: torch.zeros_like(value) for name, value in meta.model.items()}, {})
    found = layer_movement(objective, zero, [regression_episode(3, num_tasks=2)], LOOP)
    assert np.isnan(found.relative).all()
    assert (found.distance > 0).all()


@pytest.mark.parametrize("settings", [{}, {"algorithm": "anil", "joint_features": True}, {"transform": KFO()}])
def test_adapted_weights_give_the_scores_of_the_trajectory(settings):
    objective, meta, episodes = conv_case(norm="none", **settings)

    def query_loss(model, xi, support_x, support_y, query_x, query_y):
        adapted = adapted_params(objective, model, xi, support_x, support_y, query_x)
        return example_loss(apply_network(objective.network, adapted, query_x), query_y)

    scores = trajectories(objective, meta, episodes[0], LOOP)[:, -1, TRAJECTORY_COLUMNS.index("query_loss")]
    # The same sums in another order: rounding of float64.
    np.testing.assert_allclose(map_tasks(query_loss, meta, episodes, BATCHED), scores, rtol=1e-12)


# Only some layers may move ---------------------------------------------------------------------------------


def test_none_and_all_layers_moving_are_the_ends_of_the_trajectory():
    objective, meta, episodes = conv_case()
    rows = {(row.part, row.num_layers): row for row in partial_adaptation(objective, meta, episodes, BATCHED)}
    scores = trajectories(objective, meta, episodes[0], LOOP).numpy()
    for part in ("lower", "upper"):
        for num, step in ((0, 0), (3, -1)):
            np.testing.assert_allclose(rows[part, num].loss, scores[:, step, 2], rtol=1e-12)
            np.testing.assert_array_equal(rows[part, num].accuracy, scores[:, step, 3])
    assert rows["lower", 2].layers == ("body.0", "body.1")
    assert rows["upper", 2].layers == ("body.1", "head.0")


def test_moving_the_upper_layer_alone_matches_a_hand_written_loop():
    network = mlp((4,), 1, depth=1, width=3)
    objective, meta = objective_and_meta(network, lr=0.2, num_steps=3)
    episode = regression_episode(4, num_tasks=2)
    rows = partial_adaptation(objective, meta, [episode], BATCHED)
    upper = next(row for row in rows if (row.part, row.num_layers) == ("upper", 1))
    for task in range(2):
        support_x, support_y, query_x, query_y = (part[task] for part in episode.data())
        params = dict(meta.model)
        for _ in range(3):
            moving = {n: params[n].detach().requires_grad_(True) for n in ("head.0.weight", "head.0.bias")}
            example_loss(apply_network(network, {**params, **moving}, support_x), support_y).backward()
            params |= {name: value.detach() - 0.2 * value.grad for name, value in moving.items()}
        expected = float(example_loss(apply_network(network, params, query_x), query_y))
        assert upper.loss[task] == pytest.approx(expected, rel=1e-12)


def test_layers_that_never_adapt_change_nothing_when_they_may():
    objective, meta, episodes = conv_case(algorithm="anil")
    rows = {(row.part, row.num_layers): row for row in partial_adaptation(objective, meta, episodes, BATCHED)}
    np.testing.assert_array_equal(rows["lower", 2].loss, rows["lower", 0].loss)
    np.testing.assert_array_equal(rows["upper", 1].loss, rows["upper", 3].loss)


# The collapse, after adaptation ----------------------------------------------------------------------------


@pytest.mark.parametrize("num_extra", [0, 1, 2, 3])
def test_adapted_stacks_collapse_exactly_in_float64(num_extra):
    objective, meta, episodes = conv_case(linear_layers=num_extra, depth=1)
    found = collapse_check(objective, meta, episodes, BATCHED)
    assert found.relative.shape == (3,)
    assert found.relative.max() < COLLAPSE_TOLERANCE[DOUBLE]
    assert found.absolute.max() < COLLAPSE_TOLERANCE[DOUBLE]


@pytest.mark.parametrize("num_extra", [1, 3])
def test_adapted_stacks_collapse_within_rounding_in_float32(num_extra):
    objective, meta, episodes = conv_case(linear_layers=num_extra, depth=1)
    found = collapse_check(objective, *as_float32(meta, episodes), BATCHED)
    assert found.relative.max() < COLLAPSE_TOLERANCE[torch.float32]


def test_wide_and_narrow_stacks_collapse_after_adaptation_too():
    for width in (1, 3, 12):
        objective, meta = objective_and_meta(linear((6,), 1, depth=3, width=width), lr=0.05)
        found = collapse_check(objective, meta, [regression_episode(6, num_tasks=3)], LOOP)
        assert found.relative.max() < COLLAPSE_TOLERANCE[DOUBLE]


# The bottom layers' update ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_below_one_linear_layer_the_head_alone_gives_the_same_update(norm):
    objective, meta, episodes = conv_case(norm=norm)
    fit = [classification_episode((1, 6, 6), num_tasks=8, ways=3, key="fit")]
    last = bottom_updates(objective, meta, episodes, fit, BATCHED)[-1]
    assert last.layers == ("body.0", "body.1")
    assert (last.num_features, last.num_points) == (4, 48)
    # The fit finds the head up to rounding times the condition of 48 x 5 features, some 1e3.
    assert last.explained == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(last.angle_rad, 0.0, atol=1e-9)
    np.testing.assert_allclose(last.length_ratio, 1.0, rtol=1e-9)


def test_below_several_linear_layers_the_head_alone_is_their_collapse():
    objective, meta = objective_and_meta(linear((4,), 2, depth=3))
    episodes = [replace(regression_episode(4, num_tasks=6), truth={})]
    episodes = [replace(e, support_y=e.support_y.repeat(1, 1, 2)) for e in episodes]
    found = bottom_updates(objective, meta, episodes, episodes, LOOP)
    assert [row.layers for row in found] == [("head.0",), ("head.0", "head.1")]
    for row in found:
        np.testing.assert_allclose(row.angle_rad, 0.0, atol=1e-9)
        np.testing.assert_allclose(row.length_ratio, 1.0, rtol=1e-9)


def test_below_a_nonlinear_layer_the_comparison_matches_a_hand_written_one():
    network = mlp((3,), 1, depth=2, width=4, activation="tanh")
    objective, meta = objective_and_meta(network)
    episode, fit = regression_episode(3, num_tasks=2), regression_episode(3, num_tasks=5, queries=6, key="fit")
    found = bottom_updates(objective, meta, [episode], [fit], BATCHED)[0]

    def features(weight, bias, x):
        return torch.tanh(x @ weight.T + bias)

    def outputs(weight, bias, x):
        hidden = features(weight, bias, x) @ meta.model["body.2.weight"].T + meta.model["body.2.bias"]
        return torch.tanh(hidden) @ meta.model["head.0.weight"].T + meta.model["head.0.bias"]

    first = (meta.model["body.0.weight"], meta.model["body.0.bias"])
    x = fit.query_x.reshape(-1, 3)
    design = np.column_stack([features(*first, x).numpy(), np.ones(len(x))])
    target = outputs(*first, x).numpy()
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    residual = target - design @ solution
    assert found.explained == pytest.approx(1 - residual.var() / target.var(), rel=1e-9)
    head = torch.from_numpy(solution)
    for task in range(2):
        updates = []
        for full in (True, False):
            own = [value.clone().requires_grad_(True) for value in first]
            x, y = episode.support_x[task], episode.support_y[task]
            out = outputs(*own, x) if full else features(*own, x) @ head[:-1] + head[-1]
            example_loss(out, y).backward()
            updates.append(torch.cat([value.grad.flatten() for value in own]).numpy())
        lengths = [np.linalg.norm(update) for update in updates]
        angle = math.acos(updates[0] @ updates[1] / (lengths[0] * lengths[1]))
        assert found.angle_rad[task] == pytest.approx(angle, rel=1e-6)
        assert found.length_ratio[task] == pytest.approx(lengths[0] / lengths[1], rel=1e-9)


def test_bottom_of_a_conv_network_is_the_network_of_that_depth():
    network = cnn((1, 6, 6), 3, depth=3, width=4)
    params = initial_params(network, init="release", seed=0, dtype=DOUBLE)
    x = classification_episode((1, 6, 6), num_tasks=1, ways=3).query_x[0]
    for depth in (1, 2, 3):
        shallow = cnn((1, 6, 6), 3, depth=depth, width=4)
        bottom = bottom_network(network, depth)
        own = {name: params[name] for name in bottom.parameter_names()}
        expected = apply_network(shallow, initial_params(shallow, init="release", seed=0, dtype=DOUBLE), x, "body")
        torch.testing.assert_close(apply_network(bottom, own, x), expected)


def test_bottom_with_flattened_maps_fits_by_least_norm_with_fewer_points_than_features():
    network = cnn((1, 6, 6), 3, depth=2, width=4, head="flatten")
    objective, meta = objective_and_meta(network)
    episodes = [classification_episode((1, 6, 6), num_tasks=2, ways=3)]
    found = bottom_updates(objective, meta, episodes, episodes, BATCHED)[0]
    assert found.num_features == 144 > found.num_points == 12
    assert found.explained == pytest.approx(1.0, abs=1e-9)
    assert np.isfinite(found.angle_rad).all()


@pytest.mark.parametrize(
    ("b", "expected"),
    [([2.0, 0.0], 0.0), ([0.0, 3.0], math.pi / 2), ([-1.0, 0.0], math.pi), ([1.0, 1e-9], 1e-9)],
)
def test_angles_are_exact_even_where_the_cosine_is_not(b, expected):
    found = float(angle_between(torch.tensor([1.0, 0.0], dtype=DOUBLE), torch.tensor(b, dtype=DOUBLE)))
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-15)
