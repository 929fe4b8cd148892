"""A worker other than 0 makes sure that it computes the same; what it computes is tested with `mamlcli train`."""

import pickle
from dataclasses import replace

import pytest
import torch

from mamlcli.common.errors import DeviceError, RunError
from mamlcli.common.processes.place import Place
from mamlcli.engine.execution import Execution
from mamlcli.engine.sharing import WorkerGroup
from mamlcli.engine.state import new_state
from mamlcli.recipe.files import load_recipe
from mamlcli.training.experiment import build
from mamlcli.training.follow import SharedRun, follow_run
from tests.helpers.running import TINY


class Told(WorkerGroup):
    """A group whose worker 0 has said this."""

    shared = None

    def follow(self, kind):
        return self.shared


@pytest.fixture
def told(one_thread):
    def group(shared=None):
        made = Told(Place(1, 2, 1, 2))
        made.shared = shared
        return made

    return group


@pytest.fixture
def shared(one_thread):
    """What worker 0 says of a new run."""
    experiment = build(load_recipe("linear-regression", TINY)[1], splits=("train",))
    state = new_state(experiment.initial_meta(), experiment.outer_loop())
    return SharedRun.of(experiment, state, Execution("explicit", 1))


def test_worker_without_a_run_has_nothing_to_do(told):
    assert follow_run(told()) is None


def test_what_worker_0_says_is_all_that_the_same_training_needs(shared):
    received = pickle.loads(pickle.dumps(shared))  # as it travels
    assert (received.recipe, received.device, received.digest, received.threads) == (shared.recipe, "cpu", None, 1)
    assert received.how == Execution("explicit", 1)
    tensors, primitives = received.state
    assert primitives["iteration"] == 0
    assert all(torch.equal(value, shared.state[0][name]) for name, value in tensors.items())


def test_other_data_than_that_of_worker_0_is_refused(told, shared):
    with pytest.raises(RunError, match=r"tasks: expected the data of worker 0 \(digest abc\), got other data"):
        follow_run(told(replace(shared, digest="abc")))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_machine_without_the_device_of_worker_0_is_refused(told, shared):
    with pytest.raises(DeviceError, match="this machine, which has 0 CUDA devices"):
        follow_run(told(replace(shared, device="cuda")))
