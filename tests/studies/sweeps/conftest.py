"""A finished study and a trained run, made once for all tests of sweeps."""

import pytest

from mamlcli.runs.folder import RunDirectory
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from tests.helpers.running import train_run
from tests.helpers.studies import recipe_of, run_here, tiny_sweep


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A sweep over two depths and two seeds, and its folder; it is only read."""
    path = tmp_path_factory.mktemp("studies") / "study"
    sweep = tiny_sweep()
    run_here(sweep, path)
    return sweep, path


@pytest.fixture(scope="session")
def shallow(tmp_path_factory):
    """A trained run of one linear layer; it is only read."""
    recipe = recipe_of("logistic")
    run = RunDirectory.create(tmp_path_factory.mktemp("runs") / "shallow", recipe, "logistic")
    train_run(run, build(recipe, splits=splits_of_training(recipe)), argv=[])
    return run
