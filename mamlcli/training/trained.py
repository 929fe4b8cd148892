"""Opens a trained run again: on another device, with the tasks of other splits, or without its data."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mamlcli.common.errors import RunError
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.state import is_meta_parameter
from mamlcli.recipe.files import load_recipe, recipe_from_tree, recipe_to_tree
from mamlcli.recipe.places import data_path
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.manifest import FINISHED
from mamlcli.runs.suggestions import resume
from mamlcli.tasks.images.ink import ImageRecord
from mamlcli.training.checkpoints import is_the_one_before, load_checkpoint
from mamlcli.training.data_place import check_found, check_same, located
from mamlcli.training.experiment import Experiment, build, build_without_data
from mamlcli.training.given_record import check_given, record_given


@dataclass(frozen=True)
class TrainedRun:
    """A trained run, ready to be used: network, inner loop and the weights that it learned.

    Attributes:
        directory: the run's folder.
        experiment: built from its recipe; `distributions` are those of the splits asked for, none without data.
        meta: theta and xi on the experiment's device: best by meta-validation, else the last.
        weights: which of these `meta` is, in words.
    """

    directory: RunDirectory
    experiment: Experiment
    meta: MetaParams
    weights: str

    @property
    def recipe(self) -> Recipe:
        """The run's recipe, on the device it was opened for."""
        return self.experiment.recipe


def recipe_elsewhere(
    run: RunDirectory,
    *,
    where: str,
    device: str | None = None,
    split: str | None = None,
    changes: Sequence[str] = (),
) -> Recipe:
    """Return a run's recipe for another device, another split to evaluate on, with other keys, its data found.

    Args:
        run: whose recipe it is.
        where: the first word of a message.
        device, split: None leaves each as it was.
        changes: words `key.path=value`.

    Raises:
        RecipeError: a device or a split that there is not, or keys that do not go together.
    """
    tree = recipe_to_tree(load_recipe(str(run.recipe_path), changes)[1])
    if device is not None:
        tree["execution"]["device"] = device
    if split is not None:
        tree["evaluation"]["split"] = split
    return located(run, recipe_from_tree(tree, where=where))


def open_trained(run: RunDirectory, recipe: Recipe, *, splits: tuple[str, ...] = ()) -> TrainedRun:
    """Return a run with its best weights, and set the threads of this process to what suits it.

    Args:
        run: it has a checkpoint.
        recipe: the run's own, or as `recipe_elsewhere` gave it.
        splits: those whose tasks are needed. Without any, the run's data need not be here: the shapes of its network
            are in its manifest; a run of a version that did not note them takes them from its data.

    Raises:
        RunError: the run has no checkpoint, or at another place than its own are other data; DeviceError: this machine
            lacks the recipe's device; DataError: the data that is needed is not here.
    """
    noted = None if splits else _noted_shapes(run, recipe)
    if noted is None:
        check_found(run, recipe)
        experiment = build(recipe, splits=splits or (recipe.evaluation.split,), trained_by=run.recipe)
        if data_path(recipe) != data_path(run.recipe):
            check_same(run, experiment.data_digest)
    else:
        experiment = build_without_data(recipe, input_shape=noted[0], num_outputs=noted[1])
    if run.manifest.given:
        now = record_given(recipe, experiment.network, experiment.objective().inner.transform)
        check_given(run.label, run.manifest.given, now)
    experiment.use_threads()
    return TrainedRun(run, experiment, *best_weights(run, experiment))


def num_inner_steps(recipe: Recipe, asked: int | None = None) -> int:
    """Return the inner steps to adapt with: those asked for, else those of the run's evaluation."""
    return asked or recipe.evaluation.steps or recipe.inner.steps


def noted_images(run: RunDirectory) -> ImageRecord | None:
    """Return how a run's images became arrays, from its manifest; None where it does not say."""
    stored = run.manifest.data.get("images")
    if isinstance(stored, dict):
        with contextlib.suppress(TypeError, ValueError, KeyError):
            return ImageRecord.from_dict(stored)
    return None


def _noted_shapes(run: RunDirectory, recipe: Recipe) -> tuple[tuple[int, ...], int] | None:
    """Return (input shape, number of outputs) of a run's network as its manifest has them."""
    if run.manifest.network is not None:
        return run.manifest.network
    images, ways = noted_images(run), getattr(recipe.tasks, "ways", None)
    if images is None or ways is None:
        return None
    size = images.preprocessing.size
    return (images.preprocessing.channels, size, size), ways


def best_weights(run: RunDirectory, experiment: Experiment) -> tuple[MetaParams, str]:
    """Return the meta-parameters to score, on the experiment's device, and which they are in words.

    They are the best by meta-validation; of a run without, the last.

    Raises:
        RunError: the run has no checkpoint.
    """
    which, tensors, primitives = weights_checkpoint(run)
    flat = {name: value.to(experiment.device) for name, value in tensors.items() if is_meta_parameter(name)}
    words = {"best": "best by meta-validation", "last": "last"}[which]
    if is_the_one_before(run, which):
        words += " before one that is missing"
    return MetaParams.from_flat(flat), f"{words}, iteration {primitives['iteration']}"


def weights_checkpoint(run: RunDirectory) -> tuple[str, dict[str, Tensor], dict[str, object]]:
    """Return which checkpoint has the weights to score, "best" or "last", and its tensors and primitives.

    Raises:
        RunError: the run has no checkpoint.
    """
    for which in ("best", "last"):
        if (checkpoint := load_checkpoint(run, which)) is not None:
            return which, *checkpoint
    next_step = f"Run: {resume(run.path)}"
    if run.manifest.status in FINISHED:
        next_step = "Copy its folder checkpoints, too, or train it again"
    raise RunError(run.label, expected="a checkpoint", got="none", next_step=next_step)
