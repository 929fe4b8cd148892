"""The linear probe: the minimum that scipy finds, of features that no adaptation has touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mamlcli.common.names import LINEAR_PROBE
from mamlcli.engine.evaluation import evaluate
from mamlcli.engine.execution import Execution
from mamlcli.engine.initial import initial_params
from mamlcli.engine.linear_probe import TOLERANCE, fitted_probe, probe_references
from mamlcli.engine.networks import apply_network, cnn, linear, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams, inner_loop_for
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.fewshot import NEAREST_NEIGHBOUR, device_images, fewshot_tasks
from mamlcli.tasks.images.packs import Pack
from mamlcli.tasks.synthetic import LogisticTasks
from tests.helpers.numerics import DOUBLE

NUM_TASKS, WAYS, SHOTS, QUERIES, SIDE = 7, 3, 2, 4, 8
EXECUTIONS = [Execution(), Execution("batched", 3), Execution("explicit", 2), Execution("explicit", 3, 2)]


def image_tasks(dtype=DOUBLE):
    """Return tasks whose classes are told by their colour and some noise."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 10)
    colours = rng.integers(40, 200, size=(6, 1, 1, 3))
    images = np.clip(colours[labels] + rng.normal(0, 60, size=(60, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    pack = Pack(images, labels.astype(np.int64), tuple("abcdef"))
    keys = {"ways": WAYS, "shots": SHOTS, "queries": QUERIES, "dtype": dtype}
    return fewshot_tasks(pack, device_images(pack, torch.device("cpu")), "abcdef", where="colours", **keys)


def objective_of(network, algorithm="maml", **keys):
    return MetaObjective(network, inner_loop_for(algorithm, network, lr=0.1, num_inner_steps=1, **keys))


def small_cnn():
    return cnn((3, SIDE, SIDE), WAYS, depth=2, width=5, pool=2, head="flatten")


def weights_of(network, seed=0):
    return initial_params(network, init="torch", seed=seed, dtype=DOUBLE)


def drawn(tasks, num=NUM_TASKS):
    return sample_tasks(tasks, seed=0, split="test", iteration=0, indices=range(num))


def by_scipy(features, labels, query):
    """Return the minimum of sum CE + |W|^2 / 2 over W and b as the logits of queries and the parameters."""
    num, ways = features.shape[1], int(labels.max()) + 1

    def objective(flat):
        weight, bias = flat[:-ways].reshape(ways, num), flat[-ways:]
        logits = features @ weight.T + bias
        log_sums = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
        loss = (log_sums - logits[np.arange(len(labels)), labels]).sum() + 0.5 * (weight**2).sum()
        residual = np.exp(logits - log_sums[:, None]) - np.eye(ways)[labels]
        return loss, np.concatenate([(residual.T @ features + weight).ravel(), residual.sum(0)])

    found = minimize(objective, np.zeros(ways * (num + 1)), jac=True, method="BFGS", options={"gtol": 1e-9})
    weight, bias = found.x[:-ways].reshape(ways, num), found.x[-ways:]
    # The bias is free up to one number for all classes.
    return query @ weight.T + (bias - bias.mean()), weight


@pytest.mark.parametrize(
    ("ways", "shots", "size", "scale"), [(5, 1, 7, 1.0), (5, 5, 4, 1.0), (3, 4, 20, 6.0), (2, 1, 3, 1)]
)
def test_fit_is_the_minimum_that_scipy_finds(ways, shots, size, scale):
    rng = np.random.default_rng(ways * shots)
    features = scale * rng.normal(size=(4, ways * shots, size)) + rng.normal(size=size)
    query, labels = rng.normal(size=(6, size)), np.repeat(np.arange(ways), shots)
    x = torch.from_numpy(features)
    one_hot = torch.eye(ways, dtype=DOUBLE)[torch.from_numpy(labels)].expand(4, -1, -1)
    found, bias = fitted_probe(x @ x.mT, one_hot)
    for i in range(4):
        expected, weight = by_scipy(features[i], labels, query)
        # scipy stops at a gradient of 1e-9, or where rounding stops it, and ours at 1e-8 times the size of features;
        # the penalty makes the distance to the minimum no larger than the gradient.
        np.testing.assert_allclose((found[i].mT @ x[i]).numpy(), weight, atol=3e-6)
        logits = torch.from_numpy(query) @ (found[i].mT @ x[i]).T + bias[i] - bias[i].mean()
        np.testing.assert_allclose(logits.numpy(), expected, atol=3e-5)


def test_fit_is_stationary_to_the_tolerance_and_weights_of_examples_sum_to_nothing():
    x = torch.randn(5, 20, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.eye(4, dtype=DOUBLE).repeat_interleave(5, 0).expand(5, -1, -1)
    kernel = x @ x.mT
    weights, biases = fitted_probe(kernel, labels)
    residual = torch.softmax(kernel @ weights + biases, 2) - labels
    assert float((residual + weights).abs().max()) <= TOLERANCE
    assert float(weights.sum(1).abs().max()) < 1e-12


def test_fit_of_a_task_does_not_depend_on_other_tasks():
    x = torch.randn(6, 10, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    x = x * torch.tensor([0.1, 1, 8, 0.1, 3, 1], dtype=DOUBLE)[:, None, None]  # some need many more steps than others
    labels = torch.eye(5, dtype=DOUBLE).repeat_interleave(2, 0).expand(6, -1, -1)
    together, _ = fitted_probe(x @ x.mT, labels)
    for i in range(6):
        alone, _ = fitted_probe((x @ x.mT)[i : i + 1], labels[:1])
        # Products of one and of six matrices may round otherwise; a step more or less would be near 1e-8.
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-12)


def accuracy_by_hand(network, model, support_x, support_y, query_x, query_y):
    features = [apply_network(network, model, x, "body").flatten(1) for x in (support_x, query_x)]
    support, query = ((x / x.norm(dim=1, keepdim=True)).numpy() for x in features)
    logits, _ = by_scipy(support, support_y.numpy(), query)
    return float((logits.argmax(1) == query_y.numpy()).mean())


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("network", [small_cnn(), mlp((3, SIDE, SIDE), WAYS, depth=1, width=40)], ids=["cnn", "mlp"])
def test_probe_scores_the_features_of_each_task_on_every_path(network, execution):
    model, episode = weights_of(network), drawn(image_tasks())
    [(name, scores)] = probe_references(objective_of(network), model, episode, execution).items()
    expected = [accuracy_by_hand(network, model, *task) for task in zip(*episode.data(), strict=True)]
    assert name == LINEAR_PROBE
    assert scores.loss is None
    assert scores.accuracy.tolist() == pytest.approx(expected)
    assert 0 < scores.accuracy.mean() < 1


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_joint_features_are_those_of_one_batch(execution):
    network = small_cnn()
    model, episode = weights_of(network), drawn(image_tasks())
    objective = objective_of(network, "anil", joint_features=True)
    found = probe_references(objective, model, episode, execution)[LINEAR_PROBE]
    for i, (support_x, support_y, query_x, query_y) in enumerate(zip(*episode.data(), strict=True)):
        features = apply_network(network, model, torch.cat([support_x, query_x]), "body")
        features = (features / features.norm(dim=1, keepdim=True)).numpy()
        logits, _ = by_scipy(features[: len(support_x)], support_y.numpy(), features[len(support_x) :])
        assert float(found.accuracy[i]) == pytest.approx(float((logits.argmax(1) == query_y.numpy()).mean()))


def test_features_that_are_all_zero_leave_chance():
    network = mlp((3, SIDE, SIDE), WAYS, depth=1, width=4)
    model = {name: torch.zeros_like(value) for name, value in weights_of(network).items()}
    found = probe_references(objective_of(network), model, drawn(image_tasks()), Execution())[LINEAR_PROBE]
    assert found.accuracy.tolist() == pytest.approx([1 / WAYS] * NUM_TASKS)


def test_there_is_no_probe_without_learned_features_or_without_images():
    network = linear((3, SIDE, SIDE), WAYS)
    assert probe_references(objective_of(network), weights_of(network), drawn(image_tasks()), Execution()) == {}
    tasks = LogisticTasks(dimension=3, dtype=DOUBLE)
    network = mlp((3,), tasks.num_outputs, depth=1, width=4)
    assert probe_references(objective_of(network), weights_of(network), drawn(tasks), Execution()) == {}


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_every_run_of_an_evaluation_has_the_probe_of_its_own_weights(execution):
    network, tasks = small_cnn(), image_tasks()
    objective = objective_of(network)
    metas = [MetaParams(weights_of(network, seed), {}) for seed in (0, 1)]
    keys = {"stream": "test", "seed": 0, "num_tasks": 20, "execution": execution}  # more than are drawn at once
    together = evaluate(objective, metas, tasks, **keys)
    for meta, found in zip(metas, together, strict=True):
        expected = probe_references(objective, meta.model, drawn(tasks, 20), Execution("batched", 20))[LINEAR_PROBE]
        assert list(found.references) == [NEAREST_NEIGHBOUR, LINEAR_PROBE]
        np.testing.assert_allclose(found.references[LINEAR_PROBE].accuracy, expected.accuracy.numpy())
    a, b = (found.references for found in together)
    assert (a[LINEAR_PROBE].accuracy != b[LINEAR_PROBE].accuracy).any()
    assert (a[NEAREST_NEIGHBOUR].accuracy == b[NEAREST_NEIGHBOUR].accuracy).all()
    [without] = evaluate(objective, metas[:1], tasks, with_references=False, **keys)
    assert without.references == {}


def test_probe_is_the_same_at_every_call():
    network, episode = small_cnn(), drawn(image_tasks(torch.float32))
    model = {name: value.float() for name, value in weights_of(network).items()}
    first, second = (
        probe_references(objective_of(network), model, episode, Execution("explicit", 3, 2))[LINEAR_PROBE].accuracy
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_an_evaluation_without_the_probe_has_the_same_scores_and_the_other_references():
    network, tasks = small_cnn(), image_tasks()
    objective, metas = objective_of(network), [MetaParams(weights_of(network, 0), {})]
    keys = {"stream": "test", "seed": 0, "num_tasks": 4, "execution": Execution("explicit", 2)}
    [whole], [without] = (
        evaluate(objective, metas, tasks, with_probe=with_probe, **keys) for with_probe in (True, False)
    )
    assert list(without.references) == [NEAREST_NEIGHBOUR]
    assert (without.scores == whole.scores).all()
    assert (without.references[NEAREST_NEIGHBOUR].accuracy == whole.references[NEAREST_NEIGHBOUR].accuracy).all()
