"""A worker other than 0 makes sure that it computes the same; what it computes is tested with `mamlcli train`."""

import pytest
import torch

from mamlcli.common.errors import DeviceError, RunError
from mamlcli.common.processes.place import Place
from mamlcli.engine.sharing import WorkerGroup
from mamlcli.recipe.files import load_recipe, recipe_to_tree
from mamlcli.training.experiment import build
from mamlcli.training.follow import follow_run
from tests.helpers.running import TINY


class Told(WorkerGroup):
    """A group whose worker 0 has said this."""

    plan = None

    def follow(self):
        return self.plan


@pytest.fixture
def told(one_thread):
    def group(**plan):
        found = Told(Place(1, 2, 1, 2))
        found.plan = plan or None
        return found

    return group


def test_worker_without_a_run_has_nothing_to_do(told):
    assert follow_run(told()) is None


def test_other_data_than_that_of_worker_0_is_refused(told):
    recipe = load_recipe("linear-regression", TINY)[1]
    assert build(recipe, splits=("train",)).data.get("digest") is None
    plan = {"recipe": recipe_to_tree(recipe), "device": "cpu", "digest": "abc"}
    with pytest.raises(RunError, match=r"tasks: expected the data of worker 0 \(digest abc\), got other data"):
        follow_run(told(**plan))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_machine_without_the_device_of_worker_0_is_refused(told):
    recipe = load_recipe("linear-regression", TINY)[1]
    with pytest.raises(DeviceError, match="this machine, which has 0 CUDA devices"):
        follow_run(told(recipe=recipe_to_tree(recipe), device="cuda", digest=None))
