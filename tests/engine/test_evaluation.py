"""The meta-test protocol: which tasks, which scores, and what is left behind."""

import gc
import tracemalloc

import numpy as np
import pytest
from torch import Tensor
from torch.nn import Parameter

from mamlcli.engine import evaluation
from mamlcli.engine.evaluation import Evaluation
from mamlcli.engine.execution import Execution
from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import apply_network, linear, mlp
from mamlcli.engine.objective import (
    TRAJECTORY_COLUMNS,
    MetaObjective,
    MetaParams,
    accuracy,
    example_loss,
    inner_loop_for,
)
from mamlcli.engine.transforms import KFO
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks, LogisticTasks
from tests.helpers.numerics import DOUBLE, perturbed, trajectories

NUM_STEPS = 3
KEYS = {"stream": "test", "seed": 9}

# Batched kernels sum in another order than single ones: 1e-16, grown through three inner steps.
SAME_SUMS = 1e-12


def evaluate(objective, meta, distribution, **settings):
    """Return the scores of one run."""
    [found] = evaluation.evaluate(objective, [meta], distribution, **settings)
    return found


def classification():
    """Return (objective, meta-parameters, distribution) of an MLP with a transform."""
    tasks = LogisticTasks(dimension=3, shots=6, queries=5, dtype=DOUBLE)
    network = mlp((3,), tasks.num_outputs, depth=1, width=4)
    inner = inner_loop_for("maml", network, lr=0.3, num_inner_steps=NUM_STEPS, transform=KFO())
    model = initial_params(network, init="torch", seed=0, dtype=DOUBLE)
    xi = perturbed(KFO().init(model, 0), scale=0.1)
    return MetaObjective(network, inner), MetaParams(model, xi), tasks


def regression():
    tasks = LinearRegressionTasks(dimension=3, shots=6, queries=5, dtype=DOUBLE)
    network = linear((3,), 1)
    inner = inner_loop_for("maml", network, lr=0.3, num_inner_steps=NUM_STEPS)
    return (
        MetaObjective(network, inner),
        MetaParams(initial_params(network, init="torch", seed=0, dtype=DOUBLE), {}),
        tasks,
    )


def test_step_zero_is_the_network_before_adaptation():
    objective, meta, tasks = classification()
    result = evaluate(objective, meta, tasks, num_tasks=5, execution=Execution("batched", 2), **KEYS)
    episode = sample_tasks(tasks, seed=9, split="test", iteration=0, indices=range(5))
    for i, (support_x, support_y, query_x, query_y) in enumerate(zip(*episode.data(), strict=True)):
        support = apply_network(objective.network, meta.model, support_x)
        query = apply_network(objective.network, meta.model, query_x)
        expected = [
            example_loss(support, support_y),
            accuracy(support, support_y),
            example_loss(query, query_y),
            accuracy(query, query_y),
        ]
        assert result.scores[i, 0] == pytest.approx([float(value) for value in expected], rel=SAME_SUMS)


@pytest.mark.parametrize("execution", [Execution(), Execution("batched", 3)])
@pytest.mark.parametrize("problem", [classification, regression])
def test_last_step_is_the_outer_loss(execution, problem):
    # Two routes: the trajectory, recorded without a graph, and the outer loss that training differentiates.
    objective, meta, tasks = problem()
    result = evaluate(objective, meta, tasks, num_tasks=7, execution=execution, **KEYS)
    episode = sample_tasks(tasks, seed=9, split="test", iteration=0, indices=range(7))
    for i, task in enumerate(zip(*episode.data(), strict=True)):
        loss, hits = objective.outer_loss(meta.model, meta.transform, *task)
        assert result.column("query_loss", NUM_STEPS)[i] == pytest.approx(float(loss), rel=SAME_SUMS)
        assert result.column("query_accuracy", NUM_STEPS)[i] == pytest.approx(float(hits), nan_ok=True)


def test_every_step_is_the_last_of_a_shorter_inner_loop():
    objective, meta, tasks = classification()
    keys = {"num_tasks": 4, "execution": Execution("batched", 4), **KEYS}
    result = evaluate(objective, meta, tasks, **keys)
    assert result.num_inner_steps == NUM_STEPS
    assert result.scores.shape == (4, NUM_STEPS + 1, 4)
    for num_inner_steps in range(NUM_STEPS + 1):
        inner = inner_loop_for("maml", objective.network, lr=0.3, num_inner_steps=num_inner_steps, transform=KFO())
        shorter = evaluate(MetaObjective(objective.network, inner), meta, tasks, **keys)
        np.testing.assert_allclose(shorter.scores[:, -1], result.scores[:, num_inner_steps], rtol=SAME_SUMS)


def test_columns_are_named():
    scores = np.arange(24.0).reshape(2, 3, 4)
    result = Evaluation(scores, {}, True, 0.5)
    for index, name in enumerate(TRAJECTORY_COLUMNS):
        assert np.array_equal(result.column(name, 1), scores[:, 1, index])
    assert TRAJECTORY_COLUMNS == ("support_loss", "support_accuracy", "query_loss", "query_accuracy")


def test_support_loss_falls_along_the_trajectory():
    # Regression on 6 points with alpha = 0.3 below 2 / largest eigenvalue of most tasks: the mean must fall.
    objective, meta, tasks = regression()
    result = evaluate(objective, meta, tasks, num_tasks=50, execution=Execution("batched", 50), **KEYS)
    curve = [result.estimate("support_loss", step).mean for step in range(NUM_STEPS + 1)]
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] < 0.9 * curve[0]


@pytest.mark.parametrize("execution", [Execution(), Execution("batched", 1), Execution("batched", 3)])
def test_tasks_are_the_same_whatever_the_chunk(execution):
    objective, meta, tasks = classification()
    expected = evaluate(objective, meta, tasks, num_tasks=7, execution=Execution("batched", 7), **KEYS)
    found = evaluate(objective, meta, tasks, num_tasks=7, execution=execution, **KEYS)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=SAME_SUMS)
    for name, reference in expected.references.items():
        np.testing.assert_allclose(found.references[name].accuracy, reference.accuracy, rtol=SAME_SUMS)


def test_more_tasks_begin_with_the_same_tasks():
    objective, meta, tasks = classification()
    few, many = (
        evaluate(objective, meta, tasks, num_tasks=num, execution=Execution("batched", 2), **KEYS).scores
        for num in (3, 8)
    )
    np.testing.assert_allclose(many[:3], few, rtol=SAME_SUMS)


@pytest.mark.parametrize("change", [{"seed": 10}, {"stream": "validation"}])
def test_another_seed_or_split_is_other_tasks(change):
    objective, meta, tasks = classification()
    first, second = (
        evaluate(objective, meta, tasks, num_tasks=3, execution=Execution("batched", 3), **keys).scores
        for keys in (KEYS, {**KEYS, **change})
    )
    assert not np.isclose(first[:, 0, 0], second[:, 0, 0]).any()


def test_references_are_of_the_same_tasks():
    objective, meta, tasks = regression()
    result = evaluate(objective, meta, tasks, num_tasks=7, execution=Execution("batched", 3), **KEYS)
    episode = sample_tasks(tasks, seed=9, split="test", iteration=0, indices=range(7))
    expected = tasks.references(episode)
    assert set(result.references) == set(expected)
    assert len(expected) == 2
    for name, scores in expected.items():
        np.testing.assert_allclose(result.references[name].loss, scores.loss.numpy(), rtol=SAME_SUMS)
        assert result.references[name].accuracy is None


def test_references_can_be_left_out():
    objective, meta, tasks = regression()
    keys = {"num_tasks": 3, "execution": Execution("batched", 3), "with_references": False, **KEYS}
    assert evaluate(objective, meta, tasks, **keys).references == {}


def live_numbers():
    """Return how many numbers the tensors hold that Python can reach, counted once per storage."""
    gc.collect()
    # By type: asking `isinstance` of every object would wake lazy and deprecated ones. Other types of tensors are
    # those that `torch.compile` reckons with, which hold no numbers.
    tensors = [value for value in gc.get_objects() if type(value) in (Tensor, Parameter)]
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors}
    return sum(storages.values()) // 8  # float64


class Watched:
    """A distribution that looks at memory when it is asked for the last of `num_chunks` chunks."""

    def __init__(self, tasks, num_chunks):
        self.tasks = tasks
        self.num_left = num_chunks
        self.seen = None

    def __getattr__(self, name):
        return getattr(self.tasks, name)

    def sample(self, generators):
        self.num_left -= 1
        if self.num_left == 0:
            numpys = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
            traces = tracemalloc.take_snapshot().filter_traces([numpys]).traces
            self.seen = live_numbers(), sum(trace.size for trace in traces)
        return self.tasks.sample(generators)


def held_at_the_last_chunk(case, path, num_tasks, *, chunk):
    """Return (numbers in tensors, bytes in arrays) that the evaluation of so many tasks holds before its last chunk."""
    objective, meta, tasks = case
    for value in meta.flat().values():
        value.requires_grad_(True)
    watched = Watched(tasks, num_tasks // max(chunk, 16))  # at least 16 tasks are drawn at once
    keys = {"num_tasks": num_tasks, "execution": Execution(path, chunk), "with_references": False, **KEYS}
    tracemalloc.start()
    evaluate(objective, meta, watched, **keys)
    tracemalloc.stop()
    return watched.seen


# Four columns at each of the steps and the start, float64.
BYTES_OF_A_TASK = 8 * 4 * (NUM_STEPS + 1)


@pytest.mark.parametrize("path", ["loop", "batched", "explicit"])
def test_evaluation_of_more_tasks_holds_their_scores_and_nothing_else(path):
    case = classification()
    held_at_the_last_chunk(case, path, 32, chunk=2)  # whatever torch keeps after a first call is there now
    few, many = (held_at_the_last_chunk(case, path, num, chunk=2) for num in (32, 80))
    assert few[0] == many[0]
    assert many[1] - few[1] == 48 * BYTES_OF_A_TASK


def test_ten_thousand_tasks_take_no_more_memory_than_a_thousand_but_for_their_scores():
    case = classification()
    held_at_the_last_chunk(case, "explicit", 1000, chunk=500)
    few, many = (held_at_the_last_chunk(case, "explicit", num, chunk=500) for num in (1000, 10_000))
    assert few[0] == many[0]
    assert many[1] - few[1] == 9000 * BYTES_OF_A_TASK


@pytest.mark.parametrize("path", ["loop", "batched", "explicit"])
def test_scores_have_no_graph_though_the_meta_parameters_want_one(path):
    objective, meta, tasks = classification()
    for value in meta.flat().values():
        value.requires_grad_(True)
    episode = sample_tasks(tasks, seed=9, split="test", iteration=0, indices=range(4))
    scores = trajectories(objective, meta, episode, Execution(path, 2))
    assert not scores.requires_grad
    assert scores.grad_fn is None
