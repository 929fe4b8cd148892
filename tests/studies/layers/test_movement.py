"""Which layers adapt: against hand-written loops, closed cases and the evaluation."""

import math

import numpy as np
import pytest
import torch

from mamlcli.engine.evaluation import TaskStream, adapted_params, map_tasks
from mamlcli.engine.networks import apply_network, cnn, linear, mlp
from mamlcli.engine.objective import TRAJECTORY_COLUMNS, MetaParams, example_loss
from mamlcli.engine.transforms import KFO
from mamlcli.studies.layers.movement import layer_movement, layer_names, partial_adaptation
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks
from tests.helpers.layers import BATCHED, LOOP, conv_case, objective_and_meta
from tests.helpers.numerics import DOUBLE, regression_episode, trajectories


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
