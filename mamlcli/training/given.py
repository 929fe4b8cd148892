"""Holds the parts of a run that are given from Python, where a recipe says `python`: network, tasks, transform.

A recipe names what is installed and never code, so a run made of such parts is an ordinary run whose parts have to be
at hand: `parts_given` puts them there for a block, and `build` takes them from it.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
from torch import nn

from mamlcli.common.errors import MamlError
from mamlcli.common.seeds import key_seed
from mamlcli.common.words import first_line
from mamlcli.engine.foreign import ForeignNetwork, foreign_network, has_batch_norm
from mamlcli.engine.foreign_transform import ForeignTransform, foreign_transform
from mamlcli.recipe.given_schema import GivenModel
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import GivenClassTasks, GivenTasks
from mamlcli.tasks.few_shot_data import FewShotData
from mamlcli.tasks.given import TaskSizes, sizes_of

Made = TypeVar("Made")

# The key of a recipe that says that a part is given from Python, by the argument that it is given by.
_KEYS = {"network": "model.kind", "tasks": "tasks.source", "transform": "inner.transform.name"}

# The same parts in words of messages.
_PARTS = {
    "network": "the network that was given",
    "tasks": "the tasks that were given",
    "transform": "the transform that was given",
}


@dataclass(frozen=True, eq=False)
class Given:
    """Parts of a run that are given as objects; None for those that the recipe describes.

    Attributes:
        network: a torch.nn.Module, whose weights are where training starts; or a function without arguments that makes
            one, which is called with torch's random generator set by the run's seed.
        tasks: `FewShotData`; or an object with `sample`, see `mamlcli.tasks.episodes.TaskDistribution`; or a mapping
            of the splits "train", "validation" and "test" to such objects.
        transform: an object with `init` and `apply`, see `mamlcli.engine.transforms.GradientTransform`.
    """

    network: nn.Module | Callable[[], nn.Module] | None = None
    tasks: object = None
    transform: object = None
    _made: dict[object, object] = field(default_factory=dict, repr=False)

    @property
    def parts(self) -> dict[str, object]:
        """The parts that are given, by the argument."""
        parts = {"network": self.network, "tasks": self.tasks, "transform": self.transform}
        return {name: part for name, part in parts.items() if part is not None}

    def made(self, key: object, make: Callable[[], Made]) -> Made:
        """Return what is made once for a key: a module is tried when it is given, and not at every use."""
        if key not in self._made:
            self._made[key] = make()
        return cast(Made, self._made[key])

    def pickled(self) -> bytes:
        """Return the parts for another process, which `from_pickled` reads there.

        Raises:
            MamlError: they cannot be pickled, or are of code that only the script that runs now has.
        """
        where, expected = ", ".join(self.parts), "parts that other processes can import"
        next_step = "Define them in a file of their own and import it, or call mamlcli.train for each run"
        try:
            content = pickle.dumps(self.parts)
        except Exception as error:  # whatever an object raises that cannot be pickled
            raise MamlError(where, expected=expected, got=first_line(error), next_step=next_step) from error
        if b"__main__" in content:
            got = "some that are defined in the script itself (__main__)"
            raise MamlError(where, expected=expected, got=got, next_step=next_step)
        return pickle.dumps((sys.path, content))

    @classmethod
    def from_pickled(cls, content: bytes) -> Given:
        """Return the parts of which `pickled` gave the content; none of empty content."""
        if not content:
            return cls()
        places, parts = pickle.loads(content)
        sys.path += [place for place in places if place not in sys.path]  # where their code was imported from
        return cls(**pickle.loads(parts))


_NOTHING = Given()

_now: ContextVar[Given] = ContextVar("given", default=_NOTHING)


@contextmanager
def parts_given(given: Given) -> Iterator[None]:
    """Have parts at hand in a block; what the recipe describes itself is not looked for among them."""
    token = _now.set(given)
    try:
        yield
    finally:
        _now.reset(token)


def given_now() -> Given:
    """Return the parts that are at hand."""
    return _now.get()


def parts_needed(recipe: Recipe) -> tuple[str, ...]:
    """Return the parts that a recipe leaves to Python, by the arguments that they are given by."""
    needed = {
        "network": isinstance(recipe.model, GivenModel),
        "tasks": isinstance(recipe.tasks, GivenTasks | GivenClassTasks),
        "transform": recipe.inner.transform.name == "python",
    }
    return tuple(name for name, is_needed in needed.items() if is_needed)


def part_of(recipe: Recipe, name: str) -> object:
    """Return a part that a recipe leaves to Python.

    Raises:
        MamlError: it is not at hand.
    """
    part = given_now().parts.get(name)
    if part is None:
        needed = parts_needed(recipe)
        arguments = ", ".join(f"{one}=..." for one in needed)
        of_load = ", ".join(f"{one}=..." for one in needed if one != "tasks")
        to_load = f" or mamlcli.load(run, {of_load})" if of_load else ""
        raise MamlError(
            f"{_KEYS[name]}=python",
            expected=f"{_PARTS[name]} from Python",
            got="none",
            why="A recipe and a run hold no code",
            next_step=f"Use it from Python, where the object is: mamlcli.train(..., {arguments}){to_load}",
        )
    return part


# Networks ---------------------------------------------------------------------------------------------------------


def network_given(
    recipe: Recipe, input_shape: tuple[int, ...], num_outputs: int, *, dtype: torch.dtype, device: torch.device
) -> ForeignNetwork:
    """Return the network that is given; of another number of outputs than its own, the first ones.

    Raises:
        MamlError: none is at hand, or it cannot be meta-learned; see `engine.foreign`.
    """
    part, given = part_of(recipe, "network"), given_now()

    def make() -> ForeignNetwork:
        return foreign_network(
            module_of(part, recipe.seed),
            input_shape,
            num_outputs,
            dtype=dtype,
            device=device,
            needs_exact=not recipe.inner.first_order,
        )

    key = ("network", None if isinstance(part, nn.Module) else recipe.seed, input_shape, num_outputs, dtype, device)
    return given.made((*key, recipe.inner.first_order), make)


def module_of(part: object, seed: int) -> object:
    """Return a module that is given, or what a function that is given makes, its weights drawn by a seed."""
    if not callable(part) or isinstance(part, nn.Module):
        return part
    with torch.random.fork_rng():
        torch.manual_seed(key_seed(seed, "network"))
        return part()


# Tasks ------------------------------------------------------------------------------------------------------------


def sizes_given(tasks: object) -> TaskSizes:
    """Return the sizes of the tasks of objects with `sample`; those of a mapping of splits must agree."""
    by_split = split_objects(tasks)
    sizes = {split: sizes_of(one) for split, one in by_split.items()}
    first = next(iter(sizes))
    for split, of_split in sizes.items():
        if of_split != sizes[first]:
            raise MamlError(
                f"tasks[{split!r}]", expected=f"tasks as those of {first}, {sizes[first]}", got=str(of_split)
            )
    return sizes[first]


def split_objects(tasks: object) -> Mapping[str, object]:
    """Return the object of each split; one object alone is that of all, as a stream of tasks for each."""
    if not isinstance(tasks, Mapping):
        return dict.fromkeys(("train", "validation", "test"), tasks)
    if set(tasks) != {"train", "validation", "test"}:
        expected = "an object, or a mapping of train, validation and test to one each"
        raise MamlError("tasks", expected=expected, got=f"the keys {', '.join(map(repr, tasks))}")
    return tasks


# Transforms -------------------------------------------------------------------------------------------------------


def transform_given(recipe: Recipe) -> ForeignTransform:
    """Return the gradient transform that is given.

    Raises:
        MamlError: none is at hand, or it has no `init` and `apply`.
    """
    part = part_of(recipe, "transform")
    return given_now().made("transform", lambda: foreign_transform(part))


# Recipes ------------------------------------------------------------------------------------------------------------


def with_given_parts(tree: dict[str, object]) -> dict[str, object]:
    """Return the tree of a recipe with `python` in place of the parts that are at hand.

    Ways, shots and queries of a recipe of classes stay those of `mamlcli.few_shot_tasks`.
    """
    given = given_now()
    if not given.parts:
        return tree
    tree = {key: value for key, value in tree.items() if key != "reference"}
    if given.tasks is not None:
        tree["tasks"] = _tasks_section(_section(tree, "tasks"), given.tasks)
    if given.network is not None:
        module = module_of(given.network, seed=0)
        norm = "batch" if isinstance(module, nn.Module) and has_batch_norm(module) else "none"
        tree["model"] = {"kind": "python", "norm": norm}
    if given.transform is not None:
        inner = _section(tree, "inner")
        kept = {key: value for key, value in _section(inner, "transform").items() if key in ("parameters", "adapted")}
        tree["inner"] = {**inner, "transform": {"name": "python", **kept}}
    return tree


def _section(tree: Mapping[str, object], name: str) -> Mapping[str, object]:
    section = tree.get(name)
    return section if isinstance(section, Mapping) else {}


def _tasks_section(section: Mapping[str, object], tasks: object) -> dict[str, object]:
    if isinstance(tasks, FewShotData):
        is_of_classes = section.get("source") not in ("linear-regression", "logistic", "sinusoid", "python")
        kept = {key: section[key] for key in ("ways", "shots", "queries") if key in section and is_of_classes}
        return {"source": "python-classes", **kept}
    sizes = sizes_given(tasks)
    return {
        "source": "python",
        "classes": sizes.num_outputs if sizes.is_classification else None,
        "shots": sizes.num_support,
        "queries": sizes.num_query,
    }
