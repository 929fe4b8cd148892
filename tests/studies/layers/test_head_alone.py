"""The bottom layers' update: cases with a known answer, and a comparison written by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import apply_network, cnn, linear, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams, example_loss, inner_loop_for
from mamlcli.studies.layers.head_alone import angle_between, bottom_network, bottom_updates
from mamlcli.tasks.episodes import Episode
from tests.helpers.layers import BATCHED, LOOP, objective_and_meta
from tests.helpers.numerics import DOUBLE, classification_episode, regression_episode


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_below_one_linear_layer_the_head_alone_gives_the_same_update(norm):
    objective, meta = objective_and_meta(cnn((1, 6, 6), 3, depth=2, width=4, norm=norm))
    episodes = [classification_episode((1, 6, 6), num_tasks=3, ways=3)]
    fit = [classification_episode((1, 6, 6), num_tasks=8, ways=3, key="fit")]
    last = bottom_updates(objective, meta, episodes, fit, BATCHED)[-1]
    assert last.layers == ("body.0", "body.1")
    assert (last.num_features, last.rank, last.num_points) == (4, 5, 48)
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
    assert (found.num_features, found.num_points, found.rank) == (144, 12, 12)
    assert found.explained == pytest.approx(1.0, abs=1e-9)
    assert np.isfinite(found.angle_rad).all()


def test_rounding_of_doubled_features_is_not_fitted():
    # One input without bias: every ReLU unit is a multiple of relu(x) or relu(-x), the features have rank 2. In
    # float32 the other directions would hold rounding noise; fitted, it would give weights of 1e4 and more.
    network = mlp((1,), 1, depth=2, width=16)
    inner = inner_loop_for("maml", network, lr=0.1, num_steps=1)
    model = initial_params(network, init="release", seed=0, dtype=DOUBLE)
    objective, episodes = MetaObjective(network, inner), [regression_episode(1, num_tasks=20)]
    exact = bottom_updates(objective, MetaParams(model, {}), episodes, episodes, BATCHED)[0]
    single = [Episode(*(part.float() for part in episode.data()), truth={}) for episode in episodes]
    rounded = bottom_updates(
        objective, MetaParams({n: v.float() for n, v in model.items()}, {}), single, single, BATCHED
    )[0]
    assert rounded.rank == exact.rank == 3  # the constant 1 of the bias is the third
    # The weights and inputs differ by their rounding to float32, 6e-8; the fit magnifies that little.
    np.testing.assert_allclose(rounded.length_ratio, exact.length_ratio, rtol=1e-4)
    np.testing.assert_allclose(rounded.angle_rad, exact.angle_rad, atol=1e-4)


@pytest.mark.parametrize(
    ("b", "expected"),
    [([2.0, 0.0], 0.0), ([0.0, 3.0], math.pi / 2), ([-1.0, 0.0], math.pi), ([1.0, 1e-9], 1e-9)],
)
def test_angles_are_exact_even_where_the_cosine_is_not(b, expected):
    found = float(angle_between(torch.tensor([1.0, 0.0], dtype=DOUBLE), torch.tensor(b, dtype=DOUBLE)))
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-15)
