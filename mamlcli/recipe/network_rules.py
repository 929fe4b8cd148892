"""What a recipe's network cannot be is found here without building it: sizes of layers, names of parameters.

Where the size of the images is known from their source alone, it is used; the rest is checked where the network is
built, by the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from mamlcli.common.adapted import adapted_names
from mamlcli.common.architecture import (
    ParameterNames,
    feature_map_sides,
    head_sizes,
    parameter_names,
    select_names,
)
from mamlcli.common.errors import MamlError
from mamlcli.common.names import IMAGE_SHAPES
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.model_schema import CNNModel, LinearModel
from mamlcli.recipe.plugin_schema import TasksKeys
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ClassKeys, FolderTasks, GivenTasks, ImageKeys

# In words, Markdown, for the reference.
SENTENCES = (
    "`model.depth`, `model.stride` and `model.pool` leave something of the images.",
    "`model.norm=group` or `layer` needs two numbers or more to normalise, pixels times channels of a group, in every "
    "block.",
    "`model.linear_width`, and `model.width` of `model.kind=linear`, are not below both the features and the outputs.",
    "`inner.adapt` and `inner.transform.parameters` match parameters of the network; with `inner.algorithm=anil` or "
    "`boil`, `inner.adapt` matches those of the head or of the body alone.",
    "`inner.head=zero` or `shared` needs an output layer that adapts, and layers below it.",
)


def network_conflicts(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the keys that make a network or an inner loop that cannot be, each with what was expected and what it is.

    Each kind of mistake is reported once.
    """
    if isinstance(recipe.model, OutsideModel):  # its layers are known where it is given
        return []
    if recipe.model.kind == "cnn" and not isinstance(recipe.tasks, ClassKeys | GivenTasks | TasksKeys):
        return []
    checks: list[Callable[[Recipe], object]] = [_check_sizes, _check_adapted]
    return [found for check in checks for found in _found(check, recipe)]


def _found(check: Callable[[Recipe], object], recipe: Recipe) -> Iterator[tuple[str, str]]:
    try:
        check(recipe)
    except MamlError as error:
        yield error.where, str(error).removeprefix(f"{error.where}: ")


def image_shape(recipe: Recipe) -> tuple[int, int, int] | None:
    """Return channels, height and width of a recipe's images; None where they depend on the data, or are no images."""
    tasks = recipe.tasks
    if isinstance(tasks, FolderTasks):
        is_pack = tasks.path is None or tasks.path.endswith(".npz")
        return None if is_pack else (tasks.channels, tasks.image_size, tasks.image_size)
    if isinstance(tasks, ImageKeys):
        return IMAGE_SHAPES.get(tasks.source) if tasks.path is None else None
    return None


def _check_sizes(recipe: Recipe) -> None:
    """Raise a MamlError if the network has a layer that cannot be."""
    model, shape, num_outputs = recipe.model, image_shape(recipe), _num_outputs(recipe)
    assert not isinstance(model, OutsideModel), "its layers are known where it is given"
    num_features = _num_features(recipe, shape)
    if isinstance(model, LinearModel):
        if num_features is not None:
            head_sizes(
                num_features, num_outputs, num_extra=model.depth - 1, extra_width=model.width, width_key="model.width"
            )
        if model.depth > 1:
            num_features = model.width or num_features
    if num_features is not None:
        head_sizes(num_features, num_outputs, num_extra=model.linear_layers, extra_width=model.linear_width)


def _num_features(recipe: Recipe, shape: tuple[int, int, int] | None) -> int | None:
    """Return the inputs of the head; None where they depend on the data."""
    model = recipe.model
    assert not isinstance(model, OutsideModel), "its layers are known where it is given"
    if isinstance(model, LinearModel):
        if isinstance(recipe.tasks, ImageKeys):
            return shape and math.prod(shape)
        return getattr(recipe.tasks, "dimension", 1)
    if not isinstance(model, CNNModel):
        return model.width
    if shape is None:
        return model.width if model.head == "mean" else None
    sides = feature_map_sides(
        shape[1:], depth=model.depth, width=model.width, stride=model.stride, pool=model.pool, norm=model.norm
    )
    return model.width if model.head == "mean" else model.width * math.prod(sides)


def _num_outputs(recipe: Recipe) -> int:
    """Return the most outputs that the network has, in training or where it is scored."""
    tasks, scored = recipe.tasks, recipe.scored_tasks
    if isinstance(tasks, ClassKeys) and isinstance(scored, ClassKeys):
        return max(tasks.ways, scored.ways)
    return 2 if recipe.is_classification else 1


def names_of_parameters(recipe: Recipe) -> ParameterNames:
    """Return the names of the parameters of a recipe's network."""
    model = recipe.model
    assert not isinstance(model, OutsideModel), "the names of a module that is given are its own"
    return parameter_names(
        model.kind,
        depth=model.depth,
        norm=getattr(model, "norm", "none"),
        linear_layers=model.linear_layers,
        bias=getattr(model, "bias", True),
        of_images=isinstance(recipe.tasks, ImageKeys),
    )


def _check_adapted(recipe: Recipe) -> None:
    """Raise a MamlError if what should adapt, or should be transformed, is not there or cannot."""
    inner = recipe.inner
    adapted = adapted_names(
        inner.algorithm,
        names_of_parameters(recipe),
        inner.adapt,
        joint_features=inner.joint_features,
        head=inner.head,
    )
    if inner.transform.name != "none":
        select_names(adapted, inner.transform.parameters, where="inner.transform.parameters")
