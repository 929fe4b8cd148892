"""Makes few-shot tasks of a person's own examples: tensors, or a data set of pairs as torchvision's are."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mamlcli.common.errors import DataError
from mamlcli.common.names import SPLITS
from mamlcli.common.words import first_line
from mamlcli.tasks.fewshot import TASK_KEYS, FewShotTasks
from mamlcli.tasks.images.class_splits import Needs, split_by_seed

_WHERE = "mamlcli.few_shot_tasks"

_MOST_SHOWN = 8


@runtime_checkable
class Examples(Protocol):
    """A map-style data set: `dataset[i]` is (input, label), as in torchvision."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[object, object]: ...


@dataclass(frozen=True, eq=False)
class FewShotData:
    """Examples of classes, of which few-shot tasks are drawn; `few_shot_tasks` makes it. The recipe has the sizes.

    Attributes:
        inputs: [n, *input_shape] float, or uint8 images, which are scaled to [0, 1]; on the CPU.
        labels: [n] int64, indices of `class_names`.
        class_names: of all classes, sorted.
        splits: class names of each split; None where `split_seed` draws them.
        split_seed: draws them, 64, 16 and 20 %, or so that each split that is used has enough.
    """

    inputs: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]] | None
    split_seed: int

    @cached_property
    def digest(self) -> str:
        """A digest of inputs, labels, names and splits, to tell whether two runs saw the same data."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.inputs, self.labels):
            digest.update(f"{part.dtype} {list(part.shape)}".encode())
            digest.update(part.contiguous().numpy().data)
        digest.update(repr((self.class_names, self.splits, self.split_seed)).encode())
        return digest.hexdigest()

    @cached_property
    def _members(self) -> dict[str, Tensor]:
        return {name: (self.labels == label).nonzero()[:, 0] for label, name in enumerate(self.class_names)}

    def classes_of_splits(self, needs: Needs) -> Mapping[str, tuple[str, ...]]:
        """Return the class names of each split; drawn ones are so many that each has what it needs, if they can be."""
        if self.splits is not None:
            return self.splits
        return split_by_seed({name: len(rows) for name, rows in self._members.items()}, self.split_seed, needs)

    def tasks(
        self,
        split: str,
        class_names: Sequence[str],
        inputs: Tensor,
        *,
        ways: int,
        shots: int,
        queries: int,
        dtype: torch.dtype,
        keys: Mapping[str, str] = TASK_KEYS,
    ) -> FewShotTasks:
        """Return the tasks of a split.

        Args:
            split: its name, for messages.
            class_names: its classes; those with fewer than shots + queries examples are left out.
            inputs: those of the data, on the device where tasks are wanted.
            ways, shots, queries, dtype: as in `FewShotTasks`.
            keys: the recipe keys that ways, shots and queries come from, for messages.

        Raises:
            DataError: it has too few classes with examples enough.
        """
        members = [self._members[name] for name in class_names]
        large = tuple(rows for rows in members if len(rows) >= shots + queries)
        if len(large) < ways:
            sizes = sorted((len(rows) for rows in members), reverse=True)
            raise DataError(
                f"{keys['ways']} ({split} split)",
                expected=f"{ways} classes with {shots + queries} examples each ({keys['shots']} + {keys['queries']})",
                got=f"{len(large)} of {len(members)} classes" + (f", of {_listed(sizes)} examples" if sizes else ""),
                next_step=f"Lower these keys, or give splits= or another split_seed= to {_WHERE}",
            )
        return FewShotTasks(inputs, large, ways, shots, queries, dtype=dtype)


def few_shot_tasks(
    data: object,
    labels: object = None,
    *,
    splits: Mapping[str, Sequence[object]] | None = None,
    split_seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> FewShotData:
    """Return few-shot tasks of your own examples, for `mamlcli.train(..., tasks=...)`.

    A task has `tasks.ways` classes with `tasks.shots` support and `tasks.queries` query examples each, drawn anew for
    every task from the classes of a split: no class of meta-test is seen in meta-training.

    Args:
        data: [n, *input_shape] float, or uint8 images [n, channels, height, width], which are scaled to [0, 1]; or a
            map-style data set of (input, label), as torchvision's: its inputs are tensors, arrays, numbers or PIL
            images, all of one shape, and are read once, so a random transform of it is applied once.
        labels: [n] integers, any; of a data set they are its own.
        splits: the labels, or the names, of the classes of "train", "validation" and "test"; those named nowhere are
            left out. By default `split_seed` draws them.
        split_seed: see `splits`.
        class_names: of the labels 0, 1, ...; of a data set its attribute `classes`. By default the labels themselves.

    Raises:
        DataError: examples of several shapes, not finite, of a type that is neither float nor uint8; labels that are
            no integers, or not one for each example; a split with a class that is not there, or is in two.

    Example:
        tasks = mamlcli.few_shot_tasks(images, labels, splits={"train": range(30), "validation": [30, 31, 32, 33, 34],
                                                              "test": range(35, 40)})
    """
    if labels is None:
        inputs, numbers, names = _of_dataset(data)
    else:
        inputs, numbers, names = _as_tensor(data, "data"), _as_tensor(labels, "labels"), None
    _check(inputs, numbers)
    there = sorted(set(numbers.tolist()))
    names = list(class_names) if class_names is not None else names
    if names is not None and (there[0] < 0 or there[-1] >= len(names)):
        raise DataError(_WHERE, expected=f"labels from 0 to {len(names) - 1}, which have names", got=_listed(there))
    by_label = {label: str(label if names is None else names[label]) for label in there}
    if len(set(by_label.values())) < len(there):
        raise DataError(_WHERE, expected="a name of its own for each class", got=_listed(sorted(by_label.values())))
    indices = {label: index for index, label in enumerate(there)}
    return FewShotData(
        inputs.detach().cpu(),
        torch.tensor([indices[label] for label in numbers.tolist()]),
        tuple(by_label.values()),
        None if splits is None else _named_splits(splits, by_label),
        split_seed,
    )


def _of_dataset(data: object) -> tuple[Tensor, Tensor, Sequence[str] | None]:
    if not isinstance(data, Examples):
        expected = "tensors and labels, or a map-style data set with a length"
        raise DataError(_WHERE, expected=expected, got=type(data).__name__)
    number = len(data)
    if isinstance(data, Tensor | np.ndarray) or not number:
        got = "no examples" if not number else "no labels"
        raise DataError(_WHERE, expected="tensors with labels=, or a data set of pairs", got=got)
    inputs: list[Tensor] = []
    numbers: list[int] = []
    for index in range(number):
        pair = data[index]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            got = f"{type(pair).__name__} at {index}"
            raise DataError(_WHERE, expected="a data set of pairs (input, label)", got=got)
        inputs.append(_as_input(pair[0], index))
        numbers.append(_as_label(pair[1], index))
        if inputs[-1].shape != inputs[0].shape or inputs[-1].dtype != inputs[0].dtype:
            a, b = (f"{x.dtype} {list(x.shape)}" for x in (inputs[0], inputs[-1]))
            next_step = "Give the data set a transform that makes them one size"
            raise DataError(_WHERE, expected=f"inputs as the first, {a}", got=f"{b} at {index}", next_step=next_step)
    names = getattr(data, "classes", None)
    is_named = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return torch.stack(inputs), torch.tensor(numbers), names if is_named else None


def _as_input(value: object, index: int) -> Tensor:
    """Return one input of a data set; an image of PIL becomes [channels, height, width] uint8."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        array = np.array(value)
    except Exception as error:
        raise DataError(_WHERE, expected="inputs that are tensors", got=f"{first_line(error)} at {index}") from error
    if array.dtype.kind not in "fiub":
        raise DataError(_WHERE, expected="inputs that are tensors", got=f"{type(value).__name__} at {index}")
    is_image = hasattr(value, "getbands")  # of PIL, whose channels come last
    tensor = torch.from_numpy(array)
    return tensor.reshape(*tensor.shape[:2], -1).permute(2, 0, 1).contiguous() if is_image else tensor


def _as_label(value: object, index: int) -> int:
    try:
        return operator.index(value.item() if isinstance(value, Tensor) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(_WHERE, expected="labels that are integers", got=f"{value!r} at {index}"[:200]) from error


def _as_tensor(value: object, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise DataError(_WHERE, expected=f"{what} as a tensor", got=f"{type(value).__name__}") from error


def _check(inputs: Tensor, labels: Tensor) -> None:
    if inputs.dtype != torch.uint8 and not inputs.is_floating_point():
        next_step = "Convert them with .float(); numbers of tokens, too, which forward turns back with .long()"
        raise DataError(
            _WHERE, expected="inputs of float, or uint8 for images", got=str(inputs.dtype), next_step=next_step
        )
    if inputs.ndim < 2 or not len(inputs):
        raise DataError(_WHERE, expected="inputs [n, *input_shape]", got=str(list(inputs.shape)))
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(_WHERE, expected="labels that are integers", got=str(labels.dtype))
    if labels.shape != (len(inputs),):
        raise DataError(_WHERE, expected=f"labels [{len(inputs)}], one for each input", got=str(list(labels.shape)))
    if not (is_finite := inputs.isfinite().flatten(1).all(dim=1)).all():
        got = f"{int((~is_finite).sum())} with infinite values or NaN, the first at {int((~is_finite).nonzero()[0])}"
        raise DataError(_WHERE, expected="finite inputs", got=got)


def _named_splits(splits: Mapping[str, Sequence[object]], names: Mapping[int, str]) -> dict[str, tuple[str, ...]]:
    """Return the class names of each split, given by labels or names."""
    if not isinstance(splits, Mapping) or not set(splits) <= set(SPLITS):
        got = ", ".join(map(repr, splits)) if isinstance(splits, Mapping) else type(splits).__name__
        raise DataError(_WHERE, expected=f"splits with the keys {', '.join(SPLITS)}", got=got)
    named: dict[str, tuple[str, ...]] = {}
    taken: dict[str, str] = {}
    for split in SPLITS:
        of_split: list[str] = []
        for one in splits.get(split, ()):
            name = one if isinstance(one, str) else names.get(_as_label(one, len(of_split)), repr(one))
            if name not in names.values():
                known = _listed(list(names.values()))
                raise DataError(f"{_WHERE} ({split})", expected=f"classes that are there, {known}", got=name)
            if name in taken:
                got = f"{name} in {taken[name]} and {split}"
                raise DataError(_WHERE, expected="splits without a class in common", got=got)
            taken[name] = split
            of_split.append(name)
        named[split] = tuple(of_split)
    return named


def _listed(values: Sequence[object]) -> str:
    more = len(values) - _MOST_SHOWN
    return ", ".join(map(str, values[:_MOST_SHOWN])) + (f" and {more} more" if more > 0 else "")
