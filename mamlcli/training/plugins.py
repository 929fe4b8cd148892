"""Makes the networks, tasks and transforms of installed packages; from there on they are as those given from Python."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from mamlcli.common.errors import MamlError
from mamlcli.common.seeds import key_seed
from mamlcli.common.words import first_line
from mamlcli.engine.foreign import ForeignNetwork, foreign_network, has_batch_norm
from mamlcli.engine.foreign_transform import ForeignTransform, foreign_transform
from mamlcli.recipe.plugin_schema import FewShotKeys, NetworkKeys, PluginKeys, TransformKeys
from mamlcli.recipe.plugins import plugin_point, plugins_of
from mamlcli.recipe.schema import Recipe
from mamlcli.tasks.few_shot_data import FewShotData
from mamlcli.tasks.given import TaskSizes
from mamlcli.training.given import sizes_given

# What is made once in a process: a network is tried when it is made, and a data set may be large.
_MOST_KEPT = 8


def key_of(section: PluginKeys) -> str:
    """Return the recipe's key and value that name a plug-in, as in model.kind=resnet, the first word of messages."""
    path = {"kind": "model", "source": "tasks", "name": "inner.transform"}[section.plugin_tag]
    return f"{path}.{section.plugin_tag}={section.plugin_name}"


def plugin_network(
    recipe: Recipe, input_shape: tuple[int, ...], num_outputs: int, *, dtype: torch.dtype, device: torch.device
) -> ForeignNetwork:
    """Return the network of a recipe's plug-in, its weights drawn by the recipe's seed.

    Raises:
        MamlError: its code cannot be imported, fails, or makes something that cannot be meta-learned.
    """
    keys = recipe.model
    assert isinstance(keys, NetworkKeys)
    frozen = keys.model_dump_json()
    return _network(_Kept(keys, frozen), recipe.seed, input_shape, num_outputs, dtype, device, recipe.inner.first_order)


def plugin_tasks(keys: PluginKeys) -> Any:
    """Return what a plug-in makes of its keys: `FewShotData`, an object with `sample`, or one for each split.

    Raises:
        MamlError: its code cannot be imported or fails, or the tasks have other sizes than the keys say.
    """
    return _tasks(_Kept(keys, keys.model_dump_json()))[0]


def plugin_sizes(keys: PluginKeys) -> TaskSizes:
    """Return the sizes of the tasks of an object with `sample` that a plug-in makes."""
    sizes = _tasks(_Kept(keys, keys.model_dump_json()))[1]
    assert sizes is not None, "few-shot data has the sizes of the recipe"
    return sizes


def plugin_transform(keys: TransformKeys) -> ForeignTransform:
    """Return the gradient transform of a plug-in.

    Raises:
        MamlError: its code cannot be imported or fails, or it has no `init` and `apply`.
    """
    made = _made(keys, keys)
    try:
        return foreign_transform(made)
    except MamlError as error:
        raise MamlError(key_of(keys), expected=error.expected, got=error.got) from error


def plugin_record(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Return what a manifest notes of the plug-ins of a recipe: their packages and versions, by the section."""
    record = {}
    for path, section in plugins_of(recipe).items():
        dist = plugin_point(section.plugin_group, section.plugin_name).dist
        package, version = (dist.name, dist.version) if dist else ("unknown", "unknown")
        record[path] = {"name": section.plugin_name, "package": package, "version": version}
    return record


class _Kept:
    """Keys of a plug-in that are compared by their values: a list in them has no hash."""

    def __init__(self, keys: PluginKeys, frozen: str) -> None:
        self.keys, self.frozen = keys, f"{keys.plugin_group} {frozen}"

    def __hash__(self) -> int:
        return hash(self.frozen)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and type(other.keys) is type(self.keys) and other.frozen == self.frozen


@lru_cache(_MOST_KEPT)
def _network(
    kept: _Kept,
    seed: int,
    input_shape: tuple[int, ...],
    num_outputs: int,
    dtype: torch.dtype,
    device: torch.device,
    first_order: bool,
) -> ForeignNetwork:
    keys, where = kept.keys, key_of(kept.keys)
    assert isinstance(keys, NetworkKeys)
    with torch.random.fork_rng(), torch.device("cpu"):
        torch.manual_seed(key_seed(seed, "network"))
        module = _made(keys, keys, input_shape, num_outputs)
    made = foreign_network(
        module, input_shape, num_outputs, dtype=dtype, device=device, where=where, needs_exact=not first_order
    )
    norm = "batch" if isinstance(module, nn.Module) and has_batch_norm(module) else "none"
    if norm != keys.norm:
        next_step = f'Set norm = "{norm}" in {type(keys).__name__}, which the code of the plug-in has'
        raise MamlError(where, expected=f"norm={keys.norm}, as its keys say", got=norm, next_step=next_step)
    return made


@lru_cache(_MOST_KEPT)
def _tasks(kept: _Kept) -> tuple[Any, TaskSizes | None]:
    keys = kept.keys
    made = _made(keys, keys)
    if isinstance(made, FewShotData) and isinstance(keys, FewShotKeys):
        return made, None
    if isinstance(made, FewShotData):
        expected = "an object with sample(generators); for mamlcli.few_shot_tasks the keys derive from FewShotKeys"
        raise MamlError(key_of(keys), expected=expected, got="mamlcli.few_shot_tasks")
    try:
        sizes = sizes_given(made)
    except MamlError as error:
        where = key_of(keys)
        raise MamlError(f"{where}: {error.where}", expected=error.expected, got=error.got, why=error.why) from error
    _check_sizes(keys, sizes)
    return made, sizes


def _check_sizes(keys: Any, sizes: TaskSizes) -> None:
    """Raise a MamlError where tasks have other sizes than the keys say."""
    is_few_shot = isinstance(keys, FewShotKeys)
    per_key = keys.ways if is_few_shot else 1
    classes = keys.ways if is_few_shot else keys.num_classes
    said = (per_key * keys.shots, per_key * keys.queries, classes)
    found = (sizes.num_support, sizes.num_query, sizes.num_outputs if sizes.is_classification else None)
    if said != found:
        names = ("support examples", "query examples", "classes (None for regression)")
        expected, got = (
            ", ".join(f"{number} {name}" for number, name in zip(numbers, names, strict=True))
            for numbers in (said, found)
        )
        raise MamlError(key_of(keys), expected=f"tasks as its keys say: {expected}", got=got)


def _made(keys: PluginKeys, *arguments: object) -> Any:
    """Import the code of a plug-in and call it."""
    where, code = key_of(keys), type(keys).code
    module, _, name = code.partition(":")
    make: Callable[..., Any] | None = None
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        make = found
    except (Exception, SystemExit) as error:
        got = f"{type(error).__name__}: {first_line(error)}"
        raise MamlError(where, expected=f"{code} of the plug-in to be imported", got=got) from error
    if not callable(make):
        raise MamlError(where, expected=f"a function at {code} of the plug-in", got=repr(make)[:100])
    try:
        return make(*arguments)
    except MamlError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {first_line(error)}"
        raise MamlError(where, expected=f"{code} of the plug-in to make it of its keys", got=got) from error
