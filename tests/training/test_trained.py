"""A trained run opened again: with its data or without, elsewhere, and which of its weights are taken."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from mamlcli.common.errors import DataError, RecipeError, RunError
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import load_checkpoint
from mamlcli.training.trained import noted_images, num_inner_steps, open_trained, recipe_elsewhere
from tests.helpers.image_files import class_folders
from tests.helpers.running import TINY_IMAGES, train_tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def logistic(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("runs") / "logistic", "logistic", "inner.transform=meta-sgd")


@pytest.fixture
def photos(tmp_path):
    """A run on images whose data is gone."""
    data = class_folders(tmp_path / "data", [f"c{index}" for index in range(6)], num_images=4)
    keys = ("tasks.ways=3", "tasks.shots=1", "tasks.image_size=12", "evaluation.split=train")
    run = train_tiny(tmp_path / "run", "folder", *TINY_IMAGES, f"tasks.path={data}", *keys)
    shutil.rmtree(data)
    return run


def without(run, key):
    """Take a key out of a run's manifest, as runs of earlier versions had none."""
    path = run.path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[key]
    path.write_text(json.dumps(manifest))
    return run


def test_weights_are_those_of_the_checkpoint_and_no_state_of_the_optimizer(logistic):
    trained = open_trained(logistic, logistic.recipe)
    tensors, _ = load_checkpoint(logistic, "last")
    flat = trained.meta.flat()
    assert set(flat) == {name for name in tensors if not name.startswith("optimizer/")}
    assert set(flat) == set(trained.experiment.initial_meta().flat())
    assert all(torch.equal(value, tensors[name]) for name, value in flat.items())
    assert trained.weights == "last, iteration 2"


def test_best_checkpoint_comes_before_the_last(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic", "validation.every=1", "validation.tasks=2")
    tensors, primitives = load_checkpoint(run, "best")
    trained = open_trained(run, run.recipe)
    assert trained.weights == f"best by meta-validation, iteration {primitives['iteration']}"
    assert all(torch.equal(value, tensors[name]) for name, value in trained.meta.flat().items())


def test_run_without_a_checkpoint_says_how_to_go_on(tmp_path, logistic):
    run = RunDirectory.open(shutil.copytree(logistic.path, tmp_path / "run"))
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(RunError, match=r"got none\. Copy its folder checkpoints, too, or train it again"):
        open_trained(run, run.recipe)


def test_network_and_weights_need_no_data(photos):
    trained = open_trained(photos, photos.recipe)
    assert trained.experiment.distributions == {}
    assert trained.experiment.network.input_shape == (3, 12, 12)
    with pytest.raises(DataError):
        open_trained(photos, photos.recipe, splits=("test",))


def test_shapes_of_a_run_that_noted_its_images_alone_are_theirs(photos):
    expected = open_trained(photos, photos.recipe).experiment.network
    network = open_trained(without(photos, "network"), photos.recipe).experiment.network
    assert str(network) == str(expected)
    assert network.input_shape == expected.input_shape


def test_run_that_noted_neither_needs_its_data(photos):
    run = without(without(photos, "network"), "data")
    assert noted_images(run) is None
    with pytest.raises(DataError):
        open_trained(run, run.recipe)


def test_splits_asked_for_are_there(logistic):
    trained = open_trained(logistic, logistic.recipe, splits=("test", "train"))
    assert set(trained.experiment.distributions) == {"test", "train"}


def test_recipe_elsewhere_changes_device_and_split_alone(logistic):
    recipe = recipe_elsewhere(logistic, where="here", device="auto", split="train")
    assert (recipe.execution.device, recipe.evaluation.split) == ("auto", "train")
    assert recipe_elsewhere(logistic, where="here") == logistic.recipe
    with pytest.raises(RecipeError, match=r"^here: .*evaluation\.split"):
        recipe_elsewhere(logistic, where="here", split="holdout")


def test_inner_steps_are_those_asked_for_else_the_evaluations_else_the_trainings(logistic):
    recipe = logistic.recipe
    assert num_inner_steps(recipe) == recipe.inner.steps
    longer = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"steps": 7})})
    assert (num_inner_steps(longer), num_inner_steps(longer, 9)) == (7, 9)
