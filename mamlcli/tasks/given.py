"""Makes a task distribution of any object with a method `sample`, and checks every episode that it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mamlcli.common.errors import DataError
from mamlcli.tasks.episodes import Episode, ReferenceScores, task_generator

_SETS = ("support_x", "support_y", "query_x", "query_y")


@runtime_checkable
class Sampler(Protocol):
    """What is asked of an object of tasks: one task for each generator, as a batch."""

    def sample(self, generators: Sequence[torch.Generator]) -> object:
        """Return an `Episode`, or (support_x, support_y, query_x, query_y)."""
        ...


@dataclass(frozen=True)
class TaskSizes:
    """The sizes of an object's tasks, all alike.

    Attributes:
        input_shape: of one input.
        num_support, num_query: examples of a task.
        num_outputs: classes of a task, or numbers of a target.
        is_classification: whether labels are class indices.
    """

    input_shape: tuple[int, ...]
    num_support: int
    num_query: int
    num_outputs: int
    is_classification: bool


@dataclass(frozen=True, eq=False)
class GivenDistribution:
    """The tasks of an object that was given, each checked.

    Attributes:
        given: has `sample(generators)`, and optionally `references(episode)`, as in `TaskDistribution`; `sample` may
            return (support_x, support_y, query_x, query_y) in place of an `Episode`.
        sizes: what its tasks must be.
        dtype, device: of the inputs of an episode.
    """

    given: object
    sizes: TaskSizes
    dtype: torch.dtype
    device: torch.device

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.sizes.input_shape

    @property
    def num_outputs(self) -> int:
        return self.sizes.num_outputs

    @property
    def is_classification(self) -> bool:
        return self.sizes.is_classification

    @property
    def chance_accuracy(self) -> float | None:
        return 1.0 / self.num_outputs if self.is_classification else None

    def sample(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw one task per generator; labels become int64, and inputs those of the run's device and precision.

        Raises:
            DataError: an episode of other shapes or types, labels that are no class, or numbers that are not finite.
        """
        episode = drawn(self.given, generators)
        _check_episode(episode, len(generators), self.sizes)

        def here(part: Tensor) -> Tensor:
            return part.to(self.device, self.dtype) if part.is_floating_point() else part.to(self.device, torch.int64)

        support_x, support_y, query_x, query_y = map(here, episode.data())
        return Episode(support_x, support_y, query_x, query_y, episode.truth)

    def references(self, episode: Episode) -> dict[str, ReferenceScores]:
        """Return what the object's own `references` gives; nothing where it has none."""
        own = getattr(self.given, "references", None)
        scores: dict[str, ReferenceScores] = {} if own is None else own(episode)
        return scores


def drawn(given: object, generators: Sequence[torch.Generator]) -> Episode:
    """Return what an object's `sample` draws, as an episode.

    Raises:
        DataError: it has no such method, or it returns something else.
    """
    where = name_of(given)
    if not isinstance(given, Sampler):
        next_step = "See docs/python.md; mamlcli.few_shot_tasks makes one of tensors or a data set"
        raise DataError("tasks", expected="an object with sample(generators)", got=where, next_step=next_step)
    episode = given.sample(generators)
    if isinstance(episode, tuple) and len(episode) == 4:
        episode = Episode(*episode, truth={})
    if not isinstance(episode, Episode) or not all(isinstance(part, Tensor) for part in episode.data()):
        expected = f"an Episode, or four tensors ({', '.join(_SETS)})"
        raise DataError(f"{where}.sample", expected=expected, got=_described(episode))
    return episode


def sizes_of(given: object) -> TaskSizes:
    """Return the sizes of an object's tasks: of the first ones that it draws, and of what it says itself.

    `num_outputs`, where it says it, is the number of classes; else they are the largest label and those below it.

    Raises:
        DataError: as in `GivenDistribution.sample`.
    """
    generators = [task_generator(0, "sizes", 0, index) for index in range(8)]
    episode = drawn(given, generators)
    shapes = [tuple(part.shape) for part in episode.data()]
    is_classification = not episode.support_y.is_floating_point()
    if len(shapes[0]) < 3 or len(shapes[1]) < 2:
        expected = "support_x [num_tasks, num_support, *input_shape] and support_y [num_tasks, num_support]"
        got = f"{list(shapes[0])} and {list(shapes[1])}"
        raise DataError(f"{name_of(given)}.sample", expected=expected, got=got)
    said = getattr(given, "num_outputs", None)
    if is_classification:
        found = 1 + int(max(episode.support_y.max(), episode.query_y.max()))
    else:
        found = shapes[1][2] if len(shapes[1]) == 3 else 1
    sizes = TaskSizes(
        tuple(getattr(given, "input_shape", shapes[0][2:])),
        shapes[0][1],
        shapes[2][1] if len(shapes[2]) > 1 else 0,
        max(2, found) if said is None and is_classification else found if said is None else int(said),
        is_classification,
    )
    _check_episode(episode, len(generators), sizes, where=name_of(given))
    return sizes


def name_of(given: object) -> str:
    """Return the qualified name of an object's class, or of itself where it is a class or a function."""
    kind = given if hasattr(given, "__qualname__") else type(given)
    return f"{kind.__module__}.{kind.__qualname__}"


def _check_episode(episode: Episode, num_tasks: int, sizes: TaskSizes, where: str = "tasks") -> None:
    """Raise a DataError unless an episode has the shapes, types and values that its sizes say."""
    target = () if sizes.is_classification else (sizes.num_outputs,)
    expected = {
        "support_x": (num_tasks, sizes.num_support, *sizes.input_shape),
        "support_y": (num_tasks, sizes.num_support, *target),
        "query_x": (num_tasks, sizes.num_query, *sizes.input_shape),
        "query_y": (num_tasks, sizes.num_query, *target),
    }
    for name, part in zip(_SETS, episode.data(), strict=True):
        place = f"{where}.sample ({name})"
        if tuple(part.shape) != expected[name]:
            why = "One task for each generator, of the sizes of the first tasks and of what the object says of itself"
            raise DataError(place, expected=str(list(expected[name])), got=str(list(part.shape)), why=why)
        is_label = sizes.is_classification and name.endswith("_y")
        if is_label == part.is_floating_point() or part.is_complex() or part.dtype == torch.bool:
            kind = "int64 class indices" if is_label else "float"
            raise DataError(place, expected=kind, got=str(part.dtype))
        if not is_label and not part.isfinite().all():
            raise DataError(place, expected="finite numbers", got="some that are infinite or NaN")
        if is_label and (int(part.min()) < 0 or int(part.max()) >= sizes.num_outputs):
            classes = f"classes from 0 to {sizes.num_outputs - 1}"
            raise DataError(place, expected=classes, got=f"{int(part.min())} to {int(part.max())}")


def _described(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
