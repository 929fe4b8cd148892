"""Find which image files below a folder are of which class, and read them all into arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.ink import ink_is_dark
from mamlcli.tasks.images.reading import IMAGE_SUFFIXES, Preprocessing, image_size

# The folder names that mean a class split, and the split they mean.
_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "meta-train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "meta-validation": "validation",
    "test": "test",
    "testing": "test",
    "meta-test": "test",
}

_OMNIGLOT_SETS = ("images_background", "images_evaluation")
_WNID = re.compile(r"n\d{8}")

# The size of a pack if none is asked for: the pictures' own, up to that of mini-ImageNet.
_LARGEST_DEFAULT_SIZE = 84
_NUM_SIZED_FILES = 64
Progress = Callable[[int, int], None]
Skipped = list[tuple[str, str]]


@dataclass
class ImageTree:
    """An image tree is the image files below a folder, by class.

    Attributes:
        files: the files of each class, classes and files in a fixed order.
        groups: the group of each class; empty if there are none.
        class_splits: class names under "train", "validation", "test"; None if the folders do not say.
        skipped: what was not taken, each with the reason.
    """

    files: dict[str, list[Path]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    class_splits: dict[str, list[str]] | None = None
    skipped: Skipped = field(default_factory=list)

    @property
    def num_files(self) -> int:
        return sum(len(files) for files in self.files.values())


@dataclass(frozen=True)
class ReadTree:
    """A read tree holds the images of a tree; images are [num_images, size, size, channels], labels [num_images]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: list[str]
    preprocessing: Preprocessing


def omniglot_tree(root: Path) -> ImageTree:
    """Find the drawings `<alphabet>/<character>/<drawer>.png`, below images_background/ and images_evaluation/ too.

    Class names are "<alphabet>/<character>", groups are alphabets.
    """
    tree = ImageTree()
    for top in _omniglot_tops(_folder(root)):
        for alphabet in subfolders(top, tree.skipped):
            for character in subfolders(alphabet, tree.skipped):
                name = f"{alphabet.name}/{character.name}"
                tree.files.setdefault(name, []).extend(image_files(character, tree.skipped))
                tree.groups[name] = alphabet.name
    _require_classes(tree, root, "folders <alphabet>/<character> with drawings")
    return tree


def _omniglot_tops(root: Path) -> list[Path]:
    """Return the folders that hold alphabets: the official two, here or one folder down, else the root."""
    for parent in (root, *subfolders(root, [])):
        tops = [parent / name for name in _OMNIGLOT_SETS if (parent / name).is_dir()]
        if tops:
            # Unpacked into a folder of its own name, an archive stands inside itself.
            return [top / top.name if (top / top.name).is_dir() else top for top in tops]
    return [root]


def mini_imagenet_tree(root: Path, *, wnids: frozenset[str]) -> ImageTree:
    """Find the class folders, named by WordNet id, here or one folder down (train/, val/, test/).

    Args:
        root: the folder.
        wnids: the 100 classes of mini-ImageNet; other ids are listed as skipped, so that a folder of all of
            ImageNet can be given.
    """
    tree = ImageTree()
    for folder in subfolders(_folder(root), tree.skipped):
        below = [folder] if _WNID.fullmatch(folder.name) else subfolders(folder, tree.skipped)
        for candidate in below:
            if candidate.name in wnids:
                files = image_files(candidate, tree.skipped)
                tree.files.setdefault(candidate.name, []).extend(files)
            else:
                tree.skipped.append((str(candidate), "not a class of mini-ImageNet"))
    tree.files = dict(sorted(tree.files.items()))
    _require_classes(tree, root, "class folders named as in n01532829")
    return tree


def class_folder_tree(root: Path) -> ImageTree:
    """Find class folders, either directly below `root` or below its folders train, val and test.

    Raises:
        DataError: there are none, or a class name is in two of train, val and test.
    """
    tree = ImageTree()
    folders = subfolders(_folder(root), tree.skipped)
    if len(folders) > 1 and all(folder.name.lower() in _SPLIT_FOLDERS for folder in folders):
        tree.class_splits = {"train": [], "validation": [], "test": []}
        for folder in folders:
            names = tree.class_splits[_SPLIT_FOLDERS[folder.name.lower()]]
            names.extend(_add_classes(tree, folder))
    else:
        _add_classes(tree, root)
    tree.files = dict(sorted(tree.files.items()))
    _require_classes(tree, root, "class folders with images")
    return tree


def _add_classes(tree: ImageTree, folder: Path) -> list[str]:
    """Add each folder below `folder` as a class and return the names."""
    # The root's stray files were noted when its folders were listed; those of train/ and so on were not.
    classes = subfolders(folder, tree.skipped if tree.class_splits is not None else [])
    for path in classes:
        if path.name in tree.files:
            raise DataError(
                str(path),
                expected="a class name that no other split has",
                got=repr(path.name),
                why="Splits of few-shot learning share no classes",
                next_step=f"Rename the folder, or import one split: mamlcli data import folder {folder}",
            )
        tree.files[path.name] = image_files(path, tree.skipped)
    return [path.name for path in classes]


def _folder(root: Path) -> Path:
    if not root.is_dir():
        got = "a file" if root.exists() else "no such folder"
        raise DataError(str(root), expected="a folder of images", got=got)
    return root


def _require_classes(tree: ImageTree, root: Path, expected: str) -> None:
    if tree.num_files:
        return
    got = f"{len(tree.files)} class folders and no image file in them" if tree.files else "no class folder"
    why = f"{tree.skipped[0][0]}: {tree.skipped[0][1]}" if tree.skipped else None
    raise DataError(str(root), expected=expected, got=got, why=why, next_step="See: mamlcli data import --help")


def _entries(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder, by name, without hidden files and the like of `__MACOSX`."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(str(folder), expected="a folder that can be read", got=str(error)) from error
    for path in paths:
        if not path.name.startswith((".", "__")):
            yield path


def subfolders(folder: Path, skipped: Skipped) -> list[Path]:
    """Return the folders in a folder; files that stand beside them are noted as skipped."""
    visible = []
    for path in _entries(folder):
        if not path.is_dir():
            skipped.append((str(path), "not in a class folder"))
        elif path.is_symlink():
            skipped.append((str(path), "a link to a folder; links are not followed, they may loop"))
        else:
            visible.append(path)
    return visible


def image_files(folder: Path, skipped: Skipped, *, with_folders: bool = True) -> list[Path]:
    """Return the image files in a folder (and the folders below it); all else is noted as skipped."""
    files = []
    for path in _entries(folder):
        if path.is_symlink() and path.is_dir():
            skipped.append((str(path), "a link to a folder; links are not followed, they may loop"))
        elif path.is_dir():
            if with_folders:
                files.extend(image_files(path, skipped))
        elif not path.is_file():
            skipped.append((str(path), "no regular file, or a link to nothing"))
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            skipped.append((str(path), f"not an image by its name ({path.suffix or 'no suffix'})"))
        else:
            files.append(path)
    return files


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
    plain = Preprocessing(size=size, channels=channels, invert=False, fit=fit)
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
            tree.skipped.append((name, "a class without a usable image"))
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
        skipped.append((str(path), error.got or "unreadable"))
        return False
    return True


def _finish(
    images: NDArray[np.uint8], labels: list[int], names: list[str], plain: Preprocessing, invert: bool | None
) -> ReadTree:
    inverted = ink_is_dark(images) if invert is None else invert
    if inverted:
        np.subtract(255, images, out=images)
    preprocessing = Preprocessing(plain.size, plain.channels, inverted, plain.fit)
    return ReadTree(images, np.array(labels, dtype=np.int64), names, preprocessing)
