"""How tasks are run where nothing else says so: by shapes, kind of device and number of threads."""

import torch

from mamlcli.engine.choice import choose_execution
from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import Network, cnn, mlp
from mamlcli.engine.objective import MetaObjective, inner_loop_for
from tests.helpers.problems import NETWORKS, WAYS, Doubled, problem


def objective_of(network):
    return MetaObjective(network, inner_loop_for("maml", network, lr=0.1, num_inner_steps=5))


SIZES = {"num_support": 25, "num_query": 25, "num_inner_steps": 5, "num_tasks": 16, "device_type": "cpu"}


def test_chosen_execution_depends_on_shapes_alone():
    first, again = (choose_execution(objective_of(NETWORKS["cnn-pool"]()), **SIZES) for _ in range(2))
    assert first == again
    assert first.path == "explicit"


def test_small_networks_run_all_tasks_at_once():
    assert choose_execution(objective_of(NETWORKS["mlp"]()), **SIZES) == Execution("explicit", 16, 1)


def test_each_thread_has_a_chunk_where_there_is_work_for_it():
    network = cnn((3, 32, 32), WAYS, depth=4, width=32, stride=2)
    assert choose_execution(objective_of(network), **{**SIZES, "num_threads": 2}) == Execution("explicit", 3, 2)
    assert choose_execution(objective_of(network), **{**SIZES, "num_threads": 64}) == Execution("explicit", 1, 16)


def test_chosen_chunk_shrinks_with_the_work_of_a_task_and_never_below_one():
    def chunk(width, **changes):
        network = cnn((3, 84, 84), WAYS, depth=4, width=width)
        return choose_execution(objective_of(network), **{**SIZES, "device_type": "cuda", **changes}).chunk

    assert 1 <= chunk(32, num_support=100) < 16
    assert chunk(32, num_inner_steps=0) >= chunk(32)
    assert chunk(32, num_support=250) <= chunk(32)
    assert chunk(512, num_support=1000) == 1
    assert chunk(32) >= chunk(32, device_type="cpu")


def test_network_that_is_not_covered_is_mapped_instead():
    covered = mlp((4,), WAYS, depth=1, width=5)
    network = Network(torch.nn.Sequential(*covered.body, Doubled()), covered.head, (4,))
    assert choose_execution(problem(network)[0], **SIZES).path == "batched"


def test_threads_have_chunks_only_where_the_work_is_more_than_the_handing_over():
    def parallel(network, num_tasks, num_support):
        sizes = {**SIZES, "num_threads": 2, "num_tasks": num_tasks, "num_support": num_support}
        return choose_execution(objective_of(network), **sizes).parallel

    deep, shallow = (cnn((1, 28, 28), 5, depth=depth, width=32, stride=2) for depth in (2, 1))
    assert [parallel(deep, num_tasks, 5) for num_tasks in (4, 8)] == [1, 2]
    # A block that is one product costs less.
    assert [parallel(shallow, num_tasks, 5) for num_tasks in (8, 16, 32)] == [1, 1, 2]
    # So do weights in the span of a few inputs.
    wide = mlp((1000,), 5, depth=1, width=100)
    assert [parallel(wide, 8, num_support) for num_support in (10, 999)] == [1, 2]
