"""One task after the other, or many at once: the results are the same."""

import pytest
import torch

from mamlcli.estimators import MetaObjective, MetaParams, inner_loop_for
from mamlcli.execution import Execution, choose_execution, chunks, meta_gradient, trajectories
from mamlcli.models import cnn, initial_params, linear, mlp
from mamlcli.transforms import KFO, KFOMLP, Dense, Identity, MetaCurvature, MetaSGD, Selected
from tests.numerics import DOUBLE, classification_episode, perturbed, regression_episode, relative_error

WAYS, NUM_TASKS = 3, 5
LOOP = Execution()

TRANSFORMS = {
    "identity": Identity(),
    "meta-sgd": MetaSGD(),
    "meta-curvature": MetaCurvature(),
    "kfo": KFO(),
    "kfo-not-psd": KFO(psd=False),
    "kfo-mlp": KFOMLP(),
    "dense": Dense(),
    "kfo-on-some": Selected(KFO(), ("head.0.weight", "body.0.conv.weight")),
}
NETWORKS = {
    "cnn-pool": lambda: cnn((1, 6, 6), WAYS, depth=2, width=3, pool=2, head="flatten"),
    "cnn-stride": lambda: cnn((2, 5, 5), WAYS, depth=2, width=3, stride=2, linear_layers=1),
    "mlp": lambda: mlp((4,), WAYS, depth=2, width=5),
    "linear": lambda: linear((4,), WAYS, depth=2, width=5),
}

# Batched kernels sum in another order: 1e-16, grown through the inner steps and the batch norm of few pixels.
SAME_SUMS = 1e-10


def problem(network, algorithm="maml", transform=TRANSFORMS["identity"], **settings):
    """Return an objective, meta-parameters away from their start, and five tasks."""
    inner = inner_loop_for(algorithm, network, lr=0.2, num_steps=2, transform=transform, **settings)
    model = perturbed(initial_params(network, init="release", seed=0, dtype=DOUBLE), scale=0.1)
    adapted = {name: model[name] for name in inner.adapted}
    xi = perturbed(transform.init(adapted, 0), scale=0.1, key="xi")
    episode = classification_episode(network.input_shape, num_tasks=NUM_TASKS, ways=WAYS)
    return MetaObjective(network, inner), MetaParams(model, xi), episode


def assert_same_meta_gradient(case, *, chunk_sizes):
    expected = meta_gradient(*case, LOOP)
    assert torch.isfinite(expected.outer_loss).all()
    for chunk in chunk_sizes:
        found = meta_gradient(*case, Execution("batched", chunk))
        assert relative_error(found.gradients, expected.gradients) < SAME_SUMS, f"chunk {chunk}"
        assert torch.allclose(found.outer_loss, expected.outer_loss, rtol=SAME_SUMS, atol=0)
        assert torch.equal(found.accuracy, expected.accuracy)


@pytest.mark.parametrize("norm", ["batch", "none", "group", "layer"])
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_batched_tasks_have_the_loops_meta_gradient(norm, algorithm, transform):
    network = cnn((1, 5, 5), WAYS, depth=1, width=3, norm=norm)
    # Three does not divide five: the last chunk is smaller.
    assert_same_meta_gradient(problem(network, algorithm, transform), chunk_sizes=[3])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
def test_every_chunk_size_has_the_loops_meta_gradient(name, algorithm):
    case = problem(NETWORKS[name](), algorithm)
    # From one at a time, through sizes that do not divide five, to more than there are.
    assert_same_meta_gradient(case, chunk_sizes=[1, 2, 3, NUM_TASKS, 8])


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_batched_tasks_adapt_the_transform_as_the_loop_does(algorithm, transform):
    network = cnn((1, 5, 5), WAYS, depth=1, width=3)
    case = problem(network, algorithm, transform, adapt_transform=True)
    assert_same_meta_gradient(case, chunk_sizes=[2])


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
@pytest.mark.parametrize("algorithm", ["maml", "anil"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_batched_trajectories_are_the_loops(norm, algorithm, transform):
    network = cnn((1, 5, 5), WAYS, depth=1, width=3, norm=norm)
    case = problem(network, algorithm, transform)
    expected, found = trajectories(*case, LOOP), trajectories(*case, Execution("batched", 3))
    assert expected.shape == (NUM_TASKS, 3, 4)
    assert torch.allclose(found, expected, rtol=SAME_SUMS, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("chunk", [1, 2, 3, NUM_TASKS])
def test_every_chunk_size_has_the_loops_trajectories(name, chunk):
    case = problem(NETWORKS[name]())
    found = trajectories(*case, Execution("batched", chunk))
    assert torch.allclose(found, trajectories(*case, LOOP), rtol=SAME_SUMS, atol=0)


def test_loop_in_larger_chunks_is_the_loop():
    # The path and the chunk are two settings: the loop over a chunk sums losses before it differentiates.
    case = problem(NETWORKS["mlp"]())
    expected, found = meta_gradient(*case, LOOP), meta_gradient(*case, Execution("loop", 3))
    assert relative_error(found.gradients, expected.gradients) < SAME_SUMS


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


@pytest.mark.parametrize("execution", [LOOP, Execution("batched", 2)])
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


SIZES = {"num_images": 50, "num_steps": 5, "num_tasks": 16, "device_type": "cpu"}


def test_chosen_execution_depends_on_shapes_alone():
    first, again = (choose_execution(NETWORKS["cnn-pool"](), **SIZES) for _ in range(2))
    assert first == again
    assert first.path == "batched"


def test_small_networks_run_all_tasks_at_once():
    assert choose_execution(NETWORKS["mlp"](), **SIZES).chunk == 16


def test_chosen_chunk_shrinks_with_the_work_of_a_task_and_never_below_one():
    def chunk(width, **changes):
        network = cnn((3, 84, 84), WAYS, depth=4, width=width)
        return choose_execution(network, **{**SIZES, **changes}).chunk

    assert 1 <= chunk(32) < 16
    assert chunk(32, num_steps=0) >= chunk(32)
    assert chunk(32, device_type="cuda") >= chunk(32)
    assert chunk(32, num_images=500) <= chunk(32)
    assert chunk(512, num_images=500) == 1
