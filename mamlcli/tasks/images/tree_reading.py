"""Read the image files of a tree into arrays: the size that suits them, and one polarity for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import DataError
from mamlcli.common.words import printable
from mamlcli.tasks.images.folders import Skipped
from mamlcli.tasks.images.ink import ink_is_dark
from mamlcli.tasks.images.levels import EMPTY_CLASS
from mamlcli.tasks.images.reading import Preprocessing, deep_white, image_size
from mamlcli.tasks.images.trees import ImageTree

# The size of a pack if none is asked for: the pictures' own, up to that of mini-ImageNet.
_LARGEST_DEFAULT_SIZE = 84
_NUM_SIZED_FILES = 64
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReadTree:
    """A read tree holds the images of a tree; images are [num_images, size, size, channels], labels [num_images]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: list[str]
    preprocessing: Preprocessing


def default_size(tree: ImageTree) -> int:
    """Return the median shorter side of some of the pictures, at most 84."""
    files = [path for paths in tree.files.values() for path in paths]
    sides = []
    for path in files[:: max(1, len(files) // _NUM_SIZED_FILES)]:
        try:
            sides.append(min(image_size(path)))
        except DataError:
            continue  # read_tree reports the file
    return min(_LARGEST_DEFAULT_SIZE, int(np.median(sides))) if sides else _LARGEST_DEFAULT_SIZE


def read_tree(
    tree: ImageTree,
    *,
    size: int,
    channels: int,
    invert: bool | None,
    fit: str,
    progress: Progress | None = None,
) -> ReadTree:
    """Read all files of a tree into one array; files that cannot be read are added to `tree.skipped`.

    Args:
        tree: the files.
        size: height and width of every image.
        channels: 1 or 3.
        invert: whether to invert; None decides once for the whole set: grey images whose borders are bright
            (median above 191) are inverted.
        fit: "center-crop" or "stretch".
        progress: is called with (files read, files in all).

    Raises:
        DataError: not one file could be read.
    """
    white = deep_white(path for files in tree.files.values() for path in files)
    plain = Preprocessing(size=size, channels=channels, invert=False, fit=fit, white=white)
    images = np.empty((tree.num_files, size, size, channels), dtype=np.uint8)
    labels: list[int] = []
    names: list[str] = []
    done = 0
    for name, files in tree.files.items():
        num_before = len(labels)
        for path in files:
            done += 1
            if _read_into(images, len(labels), path, plain, tree.skipped):
                labels.append(len(names))
            if progress:
                progress(done, tree.num_files)
        if len(labels) > num_before:
            names.append(name)
        else:
            tree.skipped.append((name, EMPTY_CLASS))
    if not labels:
        raise DataError(
            "the images",
            expected="at least one file that can be read",
            got=f"none of {tree.num_files}",
            why=f"The first: {tree.skipped[0][0]}: {tree.skipped[0][1]}",
        )
    return _finish(images[: len(labels)], labels, names, plain, invert)


def _read_into(
    images: NDArray[np.uint8], index: int, path: Path, preprocessing: Preprocessing, skipped: Skipped
) -> bool:
    try:
        images[index] = preprocessing.read(path)
    except DataError as error:
        skipped.append((printable(path), error.got or "unreadable"))
        return False
    return True


def _finish(
    images: NDArray[np.uint8], labels: list[int], names: list[str], plain: Preprocessing, invert: bool | None
) -> ReadTree:
    inverted = ink_is_dark(images) if invert is None else invert
    if inverted:
        np.subtract(255, images, out=images)
    return ReadTree(images, np.array(labels, dtype=np.int64), names, replace(plain, invert=inverted))
