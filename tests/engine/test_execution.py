"""One task after the other, or many at once: the results are the same."""

from dataclasses import replace

import pytest
import torch

from mamlcli.common.errors import MamlError
from mamlcli.engine.execution import Execution, chunks
from mamlcli.engine.networks import Network, cnn, linear, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.engine.transforms import KFO
from tests.helpers.numerics import (
    DOUBLE,
    classification_episode,
    meta_gradient,
    regression_episode,
    relative_error,
    trajectories,
)
from tests.helpers.problems import (
    EVERY_TRANSFORM,
    LOOP,
    NETWORKS,
    NUM_TASKS,
    PATHS,
    SAME_SUMS,
    STEP_WEIGHTS,
    TRANSFORMS,
    WAYS,
    WITH_RATES,
    Doubled,
    assert_same_meta_gradient,
    problem,
)


@pytest.mark.parametrize("norm", ["batch", "none", "group", "layer"])
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil", "boil"])
@pytest.mark.parametrize("transform", EVERY_TRANSFORM.values(), ids=EVERY_TRANSFORM)
def test_batched_tasks_have_the_loops_meta_gradient(norm, algorithm, transform):
    network = cnn((1, 5, 5), WAYS, depth=1, width=3, norm=norm)
    # Three does not divide five: the last chunk is smaller.
    assert_same_meta_gradient(problem(network, algorithm, transform), chunk_sizes=[3])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil", "boil"])
def test_every_chunk_size_has_the_loops_meta_gradient(name, algorithm):
    if algorithm == "boil" and name.startswith("linear"):
        pytest.skip("a linear network has no body")
    case = problem(NETWORKS[name](), algorithm)
    # From one at a time, through sizes that do not divide five, to more than there are.
    assert_same_meta_gradient(case, chunk_sizes=[1, 2, 3, NUM_TASKS, 8])


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "boil"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_batched_tasks_adapt_the_transform_as_the_loop_does(algorithm, transform):
    network = cnn((1, 5, 5), WAYS, depth=1, width=3)
    case = problem(network, algorithm, transform, adapt_transform=True)
    assert_same_meta_gradient(case, chunk_sizes=[2])


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
@pytest.mark.parametrize("transform", EVERY_TRANSFORM.values(), ids=EVERY_TRANSFORM)
def test_losses_of_all_steps_have_the_loops_meta_gradient(algorithm, transform):
    case = problem(cnn((1, 5, 5), WAYS, depth=1, width=3), algorithm, transform)
    assert_same_meta_gradient(case, chunk_sizes=[1, 3], step_weights=STEP_WEIGHTS)


@pytest.mark.parametrize("name", NETWORKS)
def test_losses_of_all_steps_of_every_network_have_the_loops_meta_gradient(name):
    case = problem(NETWORKS[name](), adapt_patterns=["head.0.*"], transform=WITH_RATES["rates-of-both"])
    assert_same_meta_gradient(case, chunk_sizes=[2], step_weights=STEP_WEIGHTS)


@pytest.mark.parametrize("path", ["loop", *PATHS])
def test_all_weight_on_the_last_step_is_the_plain_loss(path):
    case, how = problem(NETWORKS["mlp"](), transform=KFO()), Execution(path, 1)
    plain, weighted = meta_gradient(*case, how), meta_gradient(*case, how, (0.0, 1.0))
    assert torch.equal(weighted.outer_loss, plain.outer_loss)
    assert torch.equal(weighted.accuracy, plain.accuracy)
    assert relative_error(weighted.gradients, plain.gradients) < SAME_SUMS


@pytest.mark.parametrize("transform", WITH_RATES.values(), ids=WITH_RATES)
def test_more_steps_than_were_trained_score_alike_on_all_paths(transform):
    objective, meta, episode = problem(NETWORKS["mlp"](), transform=transform)
    longer = MetaObjective(objective.network, replace(objective.inner, num_inner_steps=5))
    expected = trajectories(longer, meta, episode, LOOP)
    for path in PATHS:
        found = trajectories(longer, meta, episode, Execution(path, 3))
        assert torch.allclose(found, expected, rtol=SAME_SUMS, atol=0)
    shorter = trajectories(objective, meta, episode, LOOP)
    assert torch.equal(expected[:, :3], shorter)


def test_batched_tasks_share_joint_features_as_the_loop_does():
    network = cnn((1, 5, 5), WAYS, depth=2, width=3)
    assert_same_meta_gradient(problem(network, "anil", joint_features=True), chunk_sizes=[2])


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
def test_batched_regression_tasks_have_the_loops_meta_gradient(algorithm):
    network = mlp((4,), 1, depth=1, width=5, activation="tanh")
    objective, meta, _ = problem(network, algorithm)
    episode = regression_episode(4, num_tasks=NUM_TASKS)
    expected = meta_gradient(objective, meta, episode, LOOP)
    found = meta_gradient(objective, meta, episode, Execution("batched", 2))
    assert relative_error(found.gradients, expected.gradients) < SAME_SUMS
    assert found.accuracy.isnan().all()


@pytest.mark.parametrize("norm", ["batch", "none", "group", "layer"])
@pytest.mark.parametrize("algorithm", ["maml", "anil", "boil"])
@pytest.mark.parametrize("transform", EVERY_TRANSFORM.values(), ids=EVERY_TRANSFORM)
def test_batched_trajectories_are_the_loops(norm, algorithm, transform):
    network = cnn((1, 5, 5), WAYS, depth=1, width=3, norm=norm)
    case = problem(network, algorithm, transform)
    expected = trajectories(*case, LOOP)
    assert expected.shape == (NUM_TASKS, 3, 4)
    for path in PATHS:
        assert torch.allclose(trajectories(*case, Execution(path, 3)), expected, rtol=SAME_SUMS, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("chunk", [1, 2, 3, NUM_TASKS])
def test_every_chunk_size_has_the_loops_trajectories(name, chunk):
    case = problem(NETWORKS[name]())
    expected = trajectories(*case, LOOP)
    for path in PATHS:
        assert torch.allclose(trajectories(*case, Execution(path, chunk)), expected, rtol=SAME_SUMS, atol=0)


def test_loop_in_larger_chunks_is_the_loop():
    # The path and the chunk are two settings: the loop over a chunk sums losses before it differentiates.
    case = problem(NETWORKS["mlp"]())
    expected, found = meta_gradient(*case, LOOP), meta_gradient(*case, Execution("loop", 3))
    assert relative_error(found.gradients, expected.gradients) < SAME_SUMS


@pytest.mark.parametrize("kind", ["mlp", "linear"])
@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
def test_regression_has_the_loops_meta_gradient(kind, algorithm):
    network = {"mlp": mlp, "linear": linear}[kind]((3,), 1, depth=2, width=4)
    objective, meta, _ = problem(network, algorithm, KFO())
    episode = regression_episode(3, num_tasks=NUM_TASKS)
    assert_same_meta_gradient((objective, meta, episode), chunk_sizes=[2, NUM_TASKS])


def test_number_of_threads_changes_no_bit():
    case = problem(NETWORKS["cnn-stride"](), transform=KFO())
    expected = meta_gradient(*case, Execution("explicit", 1))
    for parallel in (2, 3):
        execution = Execution("explicit", 1, parallel)
        found = meta_gradient(*case, execution)
        assert all(torch.equal(found.gradients[name], value) for name, value in expected.gradients.items())
        assert torch.equal(trajectories(*case, execution), trajectories(*case, Execution("explicit", 1)))


def test_an_error_in_a_thread_is_the_callers():
    objective, meta, episode = problem(NETWORKS["mlp"]())
    wrong = MetaParams({name: value[:1] for name, value in meta.model.items()}, {})
    with pytest.raises(RuntimeError):
        meta_gradient(objective, wrong, episode, Execution("explicit", 1, 2))


def test_network_that_is_not_covered_has_no_explicit_path():
    covered = mlp((4,), WAYS, depth=1, width=5)
    network = Network(torch.nn.Sequential(*covered.body, Doubled()), covered.head, (4,))
    objective, meta, episode = problem(network)
    with pytest.raises(MamlError, match="not written out"):
        meta_gradient(objective, meta, episode, Execution("explicit", 2))


def test_meta_gradient_is_the_average_of_the_tasks():
    objective, meta, episode = problem(NETWORKS["cnn-pool"](), transform=KFO())
    together = meta_gradient(objective, meta, episode, Execution("batched", NUM_TASKS))
    alone = [meta_gradient(objective, meta, episode.tasks(i, i + 1), LOOP) for i in range(NUM_TASKS)]
    average = {
        name: torch.stack([result.gradients[name] for result in alone]).mean(dim=0) for name in together.gradients
    }
    assert relative_error(together.gradients, average) < SAME_SUMS
    losses = torch.cat([result.outer_loss for result in alone])
    assert torch.allclose(together.outer_loss, losses, rtol=SAME_SUMS, atol=0)


def test_tasks_do_not_see_each_other():
    # Batch statistics are of one task's set; another task in the chunk changes nothing.
    objective, meta, episode = problem(NETWORKS["cnn-pool"]())
    everyone = meta_gradient(objective, meta, episode, Execution("batched", NUM_TASKS)).outer_loss
    two = meta_gradient(objective, meta, episode.tasks(0, 2), Execution("batched", 2)).outer_loss
    assert torch.allclose(everyone[:2], two, rtol=SAME_SUMS, atol=0)


@pytest.mark.parametrize("execution", [LOOP, Execution("batched", 2), Execution("explicit", 2, 2)])
def test_meta_gradient_leaves_the_meta_parameters_and_keeps_no_graph(execution):
    objective, meta, episode = problem(NETWORKS["mlp"](), transform=KFO())
    before = {name: value.clone() for name, value in meta.flat().items()}
    result = meta_gradient(objective, meta, episode, execution)
    for name, value in meta.flat().items():
        assert torch.equal(value, before[name])
        assert not value.requires_grad
    for value in (result.outer_loss, result.accuracy, *result.gradients.values()):
        assert not value.requires_grad


def test_parameter_that_no_task_uses_has_a_gradient_of_zero():
    objective, meta, episode = problem(NETWORKS["linear"]())
    meta = MetaParams(meta.model, {"spare/scale": torch.ones(3, dtype=DOUBLE)})
    assert not meta_gradient(objective, meta, episode, LOOP).gradients["transform/spare/scale"].any()


def test_chunks_are_every_task_once_and_in_order():
    episode = classification_episode((2,), num_tasks=NUM_TASKS, ways=WAYS)
    parts = list(chunks(episode, Execution("batched", 2)))
    assert [part.num_tasks for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.support_x for part in parts]), episode.support_x)
