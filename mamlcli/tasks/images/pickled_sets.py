"""Reads image sets that are passed on as pickled arrays: mini-ImageNet's caches, FC100, CIFAR-FS and the like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import DataError
from mamlcli.common.names import SPLITS
from mamlcli.common.words import composed, shown
from mamlcli.tasks.images.folder_names import split_meant
from mamlcli.tasks.images.image_sets import ImageSet
from mamlcli.tasks.images.pickled import read_pickle
from mamlcli.tasks.images.reading import Preprocessing
from mamlcli.tasks.images.tree_reading import Progress

PICKLE_SUFFIXES = (".pkl", ".pickle", ".p", ".pk")
_IMAGE_KEYS = ("image_data", "data", "images")
_LABEL_KEYS = ("labels", "label", "fine_labels", "targets")
_NAME_KEYS = ("catname2label", "label2catname")
_EXPECTED = "a pickle of arrays: image_data and class_dict, or data and labels"

# Of the classes of meta-train, other images: what is meant by them is not meta-validation or meta-test.
_PHASES = re.compile(r"train[_-]phase[_-](val|test)")


@dataclass(frozen=True)
class PickledPart:
    """A pickled part is one file with the images of some classes, and the split that its name says, if any."""

    path: Path
    split: str | None


@dataclass
class _Growing:
    """The images of the parts so far, as they were read: one copy of them is in memory, joined at the end."""

    parts: list[NDArray[np.uint8]] = field(default_factory=list)
    names: list[NDArray[np.int64]] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    split_of: dict[str, str | None] = field(default_factory=dict)
    nameless: list[tuple[str | None, dict[int, str]]] = field(default_factory=list)

    def add(self, images: NDArray[np.uint8], where: str) -> None:
        expected = (self.parts or [images])[0].shape[1:]
        if images.shape[1:] != expected:
            got = " x ".join(map(str, images.shape[1:]))
            raise DataError(where, expected=f"images of {expected}, as in the other files", got=got)
        self.parts.append(images)

    def joined(self) -> NDArray[np.uint8]:
        """Return the images of all parts, which this gives up one by one.

        The system gives memory to a new array where it is written, so that beside the set there is one part more, not
        a second copy of all.
        """
        images = np.empty((sum(map(len, self.parts)), *self.parts[0].shape[1:]), dtype=np.uint8)
        start = 0
        while self.parts:
            part = self.parts.pop(0)
            images[start : start + len(part)] = part
            start += len(part)
        return images

    def rename(self, new: dict[str, str]) -> None:
        self.index = {new.get(name, name): number for name, number in self.index.items()}
        self.split_of = {new.get(name, name): split for name, split in self.split_of.items()}


def pickled_parts(folder: Path) -> tuple[list[PickledPart], list[tuple[str, str]]]:
    """Return the pickled parts in a folder, meta-train first, and (file, reason) of those that are not taken."""
    parts, skipped = [], []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in PICKLE_SUFFIXES and path.is_file()):
        if _PHASES.search(path.stem.lower()):
            skipped.append((str(path), "other images of the meta-train classes, which no split of classes has"))
        elif not path.name.startswith("."):
            parts.append(PickledPart(path, split_of_file(path)))
    order = {"train": 0, "validation": 1, "test": 2}
    return sorted(parts, key=lambda part: order.get(part.split or "", 3)), skipped


def split_of_file(path: Path) -> str | None:
    """Return the split that the name of a file says, as mini-imagenet-cache-val.pkl says validation; else None."""
    stem = path.stem.lower()
    if "train_phase" in stem:
        return "train"
    splits = {split for word in re.findall(r"[a-z]+", stem) if (split := split_meant(word)) is not None}
    return splits.pop() if len(splits) == 1 else None


def parts_beside(path: Path) -> list[str]:
    """Return the names of the files beside a part, named as it is, that hold other splits of its set."""

    def words(of: Path) -> list[str]:
        return [word for word in re.findall(r"[a-z]+", of.stem.lower()) if word != "phase" and not split_meant(word)]

    others = [part for part in pickled_parts(path.parent)[0] if part.split not in (None, split_of_file(path))]
    return [part.path.name for part in others if words(part.path) == words(path)]


def read_pickled(
    parts: Sequence[PickledPart], *, numbered: dict[str, dict[int, str]] | None = None, progress: Progress | None = None
) -> ImageSet:
    """Read one or more pickled parts of an image set.

    A part is a dictionary, in one of the forms in use:

    - `image_data` uint8 [num_images, height, width, channels], and `class_dict`, for each class its image numbers;
    - `data`, the same array (or [num_images, channels, height, width], or [num_images, 3072] as CIFAR has it), and
      `labels`, for each image a number or a name; numbers have names in `catname2label` or `label2catname`.

    Numbers without names get a name of split and number, such as train-07; or the names of `numbered`, where in each
    file the numbers are exactly those of its split.

    Args:
        parts: the files; memory holds the set once, and one part more.
        numbered: for each split the names that numbers stand for, by number; None where numbers say nothing.
        progress: is called with (files read, files in all).

    Raises:
        DataError: a file cannot be read or is in none of these forms, or a class is in two splits.
    """
    growing, skipped = _Growing(), list[tuple[str, str]]()
    for done, part in enumerate(parts):
        where = shown(part.path)
        content = read_pickle(part.path, expected=_EXPECTED)
        images, labels, names = _images_and_labels(where, content, skipped)
        if names is None:
            names = _names_of_numbers(labels, part)
            growing.nameless.append((part.split, names))
        del content
        growing.add(images, where)
        del images
        _name_images(where, growing, labels, names, part.split)
        if progress:
            progress(done + 1, len(parts))
    known = _known_names(growing.nameless, numbered or {})
    growing.rename(known)
    return _finished(growing, skipped, is_nameless=bool(growing.nameless) and not known)


def _images_and_labels(
    where: str, content: object, skipped: list[tuple[str, str]]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[int, str] | None]:
    """Return the images of a part, their labels, and the names of the labels (None where the file has none)."""
    if not isinstance(content, dict):
        raise DataError(where, expected=_EXPECTED, got=type(content).__name__)
    key = next((key for key in _IMAGE_KEYS if key in content), None)
    label_key = next((key for key in _LABEL_KEYS if key in content), None)
    if key is None or (label_key is None and "class_dict" not in content):
        raise DataError(where, expected=_EXPECTED, got=f"a dictionary of {_some(content)}")
    images = _checked_images(f"{where}: {key}", content.pop(key))
    if "class_dict" in content:
        labels, names = _from_class_dict(f"{where}: class_dict", content["class_dict"], len(images))
        if (labels < 0).any():
            skipped.append((where, f"{int((labels < 0).sum())} images that are of no class"))
            images, labels = images[labels >= 0], labels[labels >= 0]
        return images, labels, names
    return images, *_from_labels(f"{where}: {label_key}", content, label_key, len(images))


def _some(content: dict[object, object]) -> str:
    names = [shown(str(key)) for key in list(content)[:5]]
    return ", ".join(names) + (", ..." if len(content) > 5 else "") if names else "nothing"


def _checked_images(where: str, value: object) -> NDArray[np.uint8]:
    """Return images as [num_images, height, width, channels]; a view of what was read, where that is possible."""
    images = np.stack(alike) if (alike := _arrays_alike(value)) else value
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        got = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise DataError(where, expected="images of one size, uint8 (0 to 255)", got=got)
    shaped: NDArray[np.uint8] = images
    if shaped.ndim == 2 and shaped.shape[1] == 3072:
        shaped = shaped.reshape(-1, 3, 32, 32)
    if shaped.ndim == 3:
        shaped = shaped[..., None]
    is_images = shaped.ndim == 4 and 0 not in shaped.shape
    if is_images and shaped.shape[3] not in (1, 3) and shaped.shape[1] in (1, 3):
        shaped = shaped.transpose(0, 2, 3, 1)
    if not is_images or shaped.shape[3] not in (1, 3):
        expected = "images [num_images, height, width, 1 or 3]"
        raise DataError(where, expected=expected, got=f"{shaped.dtype} {list(shaped.shape)}")
    return shaped


def _arrays_alike(value: object) -> list[NDArray[np.uint8]]:
    """Return a list of arrays of one shape and type; empty for anything else."""
    arrays = [one for one in value if isinstance(one, np.ndarray)] if isinstance(value, list) else []
    is_all = isinstance(value, list) and len(arrays) == len(value)
    return arrays if is_all and len({(one.shape, one.dtype) for one in arrays}) == 1 else []


def _integers(value: object) -> list[int] | None:
    values = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(values, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in values):
        return values
    return None


def _from_class_dict(where: str, value: object, num_images: int) -> tuple[NDArray[np.int64], dict[int, str]]:
    if not isinstance(value, dict) or not value:
        raise DataError(where, expected="for each class the numbers of its images", got=type(value).__name__)
    labels = np.full(num_images, -1, dtype=np.int64)
    names = {}
    for label, (name, numbers) in enumerate(value.items()):
        members = _integers(numbers)
        here = f"{where}: {shown(str(name))}"
        if members is None or not all(0 <= number < num_images for number in members):
            raise DataError(here, expected=f"numbers from 0 to {num_images - 1}", got="others")
        if (labels[members] >= 0).any():
            raise DataError(here, expected="images of one class", got="some that are of two")
        labels[members] = label
        names[label] = str(name)
    return labels, names


def _from_labels(
    where: str, content: dict[object, object], key: object, num_images: int
) -> tuple[NDArray[np.int64], dict[int, str] | None]:
    value = content[key]
    values = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(values, list) or len(values) != num_images:
        got = f"{len(values)}" if isinstance(values, list) else type(values).__name__
        raise DataError(where, expected=f"{num_images} labels, one for each image", got=got)
    numbers = _integers(values)
    if numbers is not None:
        return np.array(numbers, dtype=np.int64), _listed_names(content, set(numbers))
    if not all(isinstance(one, str) for one in values):
        raise DataError(where, expected="labels that are whole numbers or names", got="others")
    words = sorted(set(values))
    of_word = {word: label for label, word in enumerate(words)}
    return np.array([of_word[word] for word in values], dtype=np.int64), dict(enumerate(words))


def _listed_names(content: dict[object, object], numbers: set[int]) -> dict[int, str] | None:
    """Return the names that a file itself gives to the numbers of its classes, if it names them all."""
    for key in _NAME_KEYS:
        listed = content.get(key)
        if isinstance(listed, dict):
            pairs = listed.items() if key == "label2catname" else ((label, name) for name, label in listed.items())
            names = {label: str(name) for label, name in pairs if isinstance(label, int)}
            if numbers <= set(names) and len(set(names.values())) == len(names):
                return names
    return None


def _names_of_numbers(labels: NDArray[np.int64], part: PickledPart) -> dict[int, str]:
    """Return names for numbers that the file does not name."""
    numbers = sorted(set(labels.tolist()))
    width = max(2, len(str(max(numbers))))
    prefix = part.split or composed(part.path.stem)
    return {number: f"{prefix}-{number:0{width}d}" for number in numbers}


def _known_names(
    nameless: Sequence[tuple[str | None, dict[int, str]]], numbered: dict[str, dict[int, str]]
) -> dict[str, str]:
    """Return the names that a source has for numbered classes, if the numbers of every file are those of its split."""
    new: dict[str, str] = {}
    for split, names in nameless:
        known = numbered.get(split or "", {})
        if set(known) != set(names):
            return {}
        new |= {names[number]: name for number, name in known.items()}
    return new


def _name_images(
    where: str, growing: _Growing, labels: NDArray[np.int64], names: dict[int, str], split: str | None
) -> None:
    """Number the classes of a part on from those before it."""
    number_of = {}
    for label in sorted(set(labels.tolist())):
        name = composed(names[label])
        if growing.split_of.setdefault(name, split) != split:
            raise DataError(
                f"{where}: {shown(name)}",
                expected="a class that no other split has",
                got="one that is in two files",
                why="Splits of few-shot learning share no classes",
                next_step="Import the files that belong together, each set by itself",
            )
        number_of[label] = growing.index.setdefault(name, len(growing.index))
    growing.names.append(np.array([number_of[label] for label in labels.tolist()], dtype=np.int64))


def _finished(growing: _Growing, skipped: list[tuple[str, str]], *, is_nameless: bool) -> ImageSet:
    images = growing.joined()
    height, width, channels = images.shape[1:]
    names = sorted(growing.index)
    place = np.empty(len(names), dtype=np.int64)
    place[[growing.index[name] for name in names]] = np.arange(len(names))
    splits = {split: [name for name in names if growing.split_of[name] == split] for split in SPLITS}
    notes = []
    if height != width:
        notes.append(f"The images are {height} x {width}, not square")
    if is_nameless:
        notes.append(f"The files do not name their classes; they are called {_first(names)}")
    return ImageSet(
        images=images,
        labels=place[np.concatenate(growing.names)],
        class_names=tuple(names),
        preprocessing=Preprocessing(size=height, channels=channels),
        class_splits=splits if sum(bool(of_split) for of_split in splits.values()) > 1 else None,
        skipped=skipped,
        notes=notes,
    )


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
