"""Recognises how the files of an image set are laid out, as folders, lists, pickles or archives, and reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import DataError
from mamlcli.common.words import shown
from mamlcli.tasks.images.archives import archive_stem, is_archive, unpack
from mamlcli.tasks.images.cifar import IMAGE_SIZE as CIFAR_SIZE
from mamlcli.tasks.images.cifar import holds_cifar, read_cifar
from mamlcli.tasks.images.class_lists import read_class_lists
from mamlcli.tasks.images.class_splits import published_split
from mamlcli.tasks.images.csv_lists import csv_lists, csv_tree
from mamlcli.tasks.images.folders import files_and_folders, open_folder, telling_first
from mamlcli.tasks.images.image_sets import ImageSet
from mamlcli.tasks.images.known_classes import (
    CIFAR_SOURCES,
    PUBLISHED_SOURCES,
    known_groups,
    known_names,
    numbered_classes,
)
from mamlcli.tasks.images.known_folders import cifar_class_tree
from mamlcli.tasks.images.pickled_sets import (
    PICKLE_SUFFIXES,
    PickledPart,
    parts_beside,
    pickled_parts,
    read_pickled,
    split_of_file,
)
from mamlcli.tasks.images.reading import IMAGE_SUFFIXES, Preprocessing
from mamlcli.tasks.images.tree_reading import Progress, default_size, read_tree
from mamlcli.tasks.images.trees import ImageTree, class_folder_tree, mini_imagenet_tree, omniglot_tree

_SIZES = {"omniglot": 28, "mini-imagenet": 84, "cifar-fs": CIFAR_SIZE, "fc100": CIFAR_SIZE}
_OMNIGLOT_SETS = ("images_background", "images_evaluation")

# An archive may lie in an archive: that of a whole repository holds those of its data.
_MAX_DEPTH = 2

_CIFAR_FOLDERS = "the folder cifar-100-python or its archive, class folders such as apple/"
_EXPECTED = {
    "mini-imagenet": "class folders such as n01532829/, images/ with train.csv, or mini-imagenet-cache-train.pkl",
    "folder": "class folders with images, images/ with train.csv, or pickles or archives of them",
    "cifar-fs": f"{_CIFAR_FOLDERS}, or CIFAR_FS_train.pickle",
    "fc100": f"{_CIFAR_FOLDERS}, or FC100_train.pickle",
}

# What is not read, by suffix, and what to do.
_NOT_READ = {
    **dict.fromkeys(
        (".hdf5", ".h5"),
        "Torchmeta's HDF5 files are not read: import the files that it made them from (mini-imagenet-cache-train.pkl "
        "and the like, cifar100.zip, images_background.zip)",
    ),
    **dict.fromkeys((".rar", ".7z", ".gz"), "Unpack it with another program, and import the folder"),
    ".npz": "If it is a pack, it needs no import: mamlcli train folder tasks.path=PACK",
    **dict.fromkeys((".pt", ".pth", ".npy", ".tfrecord"), "Save the images as files in class folders, import these"),
}


@dataclass(frozen=True)
class ImageOptions:
    """Image options say how a folder of image files is read; None where the source or the folder decides.

    Attributes:
        size: height and width.
        channels: 1 or 3.
        invert: "yes", "no" or "auto".
        class_level: of "folder", how deep the class folders are; see `class_folder_tree`.
    """

    size: int | None = None
    channels: int | None = None
    invert: str = "auto"
    class_level: int | None = None


def read_layout(
    source: str, path: Path, *, options: ImageOptions, scratch: Path | None = None, progress: Progress | None = None
) -> ImageSet:
    """Read an image set in any of the layouts that its source is passed on in.

    Args:
        source: one of `sources.IMPORTABLE`.
        path: a folder, an archive or a pickle.
        options: of image files; arrays are taken as they are.
        scratch: an empty folder in which archives may be unpacked; None if they are not to be.
        progress: is called with (files read, files in all).

    Raises:
        DataError: nothing usable is there, or an option does not suit what is there.
    """
    found = _Reader(source, options, scratch, progress).read(path, 0)
    found.skipped = telling_first(found.skipped)
    return found


@dataclass(frozen=True)
class _Reader:
    source: str
    options: ImageOptions
    scratch: Path | None
    progress: Progress | None

    def read(self, path: Path, depth: int) -> ImageSet:
        if self.source in CIFAR_SOURCES and holds_cifar(path):
            return self._cifar_set(path)
        return self._read_folder(path, depth) if path.is_dir() else self._read_file(path, depth)

    def _read_file(self, path: Path, depth: int) -> ImageSet:
        if not path.exists():
            raise DataError(shown(path), expected="a folder, an archive or a pickle of images", got="nothing there")
        if path.suffix.lower() in PICKLE_SUFFIXES:
            found = self._pickled_set(path, [PickledPart(path, split_of_file(path))])
            if beside := parts_beside(path):
                all_of_them = command("data", "import", self.source, path.absolute().parent)
                found.notes.append(
                    f"Other splits lie beside it: {', '.join(beside)}. To import them all: {all_of_them}"
                )
            return found
        if self.source == "omniglot" and _is_small_omniglot(path):
            raise DataError(
                shown(path),
                expected=f"{_OMNIGLOT_SETS[0]}.zip or {_OMNIGLOT_SETS[1]}.zip",
                got="a small part of the first, made for quick tries",
                next_step="Give the whole archive, or the folder that holds both",
            )
        if not is_archive(path) or self.scratch is None or depth > _MAX_DEPTH:
            raise _not_read(path)
        target, left_out = self._unpacked([path])
        found = self.read(target / (archive_stem(path) or ""), depth + 1)
        found.skipped[:0] = left_out
        return found

    def _read_folder(self, path: Path, depth: int) -> ImageSet:
        if self.source == "omniglot":
            return self._tree_set(self._omniglot_tree(path))
        if not open_folder(path).holds_images:
            parts, left_out = pickled_parts(path)
            if parts:
                found = self._pickled_set(path, parts)
                found.skipped[:0] = left_out
                return found
            archives = _files(path, is_archive) if self.scratch and depth <= _MAX_DEPTH else []
            if archives:
                target, left_out = self._unpacked(archives)
                found = self.read(target, depth + 1)
                found.skipped[:0] = left_out
                return found
            for file in _files(path, lambda one: one.suffix.lower() in _NOT_READ):
                raise _not_read(file)
            raise _nothing(self.source, path)
        lists = csv_lists(path)
        tree = csv_tree(path, lists) if lists else None
        return self._tree_set(tree) if tree else self._with_class_lists(path, self._class_tree(path))

    def _with_class_lists(self, path: Path, tree: ImageTree) -> ImageSet:
        """Read class folders with the splits that lists of class names give them, if they have no other."""
        lists = read_class_lists(path, set(tree.files)) if tree.class_splits is None else None
        if lists is None:
            return self._tree_set(tree)
        splits, files = lists
        read = {str(file) for file in files}
        tree.skipped = [(file, reason) for file, reason in tree.skipped if file not in read]
        elsewhere = _elsewhere(self.source, splits)
        if elsewhere or self.source == "folder":
            tree.class_splits = splits
        found = self._tree_set(tree)
        if elsewhere:
            found.notes.append(
                f"The published lists of {self.source} are used; those in {shown(files[0].parent)} have another split "
                f"of {', '.join(elsewhere[:5])}{', ...' if len(elsewhere) > 5 else ''}"
            )
        return found

    def _unpacked(self, archives: Iterable[Path]) -> tuple[Path, list[tuple[str, str]]]:
        """Unpack archives beside each other, each into a folder of its own name; say what was left out."""
        assert self.scratch is not None
        number = len(list(self.scratch.iterdir()))
        target = self.scratch / str(number)
        left_out = []
        for archive in archives:
            folder = target / (archive_stem(archive) or archive.name)
            left_out += unpack(archive, folder)
            _without_wrapper(folder)
        return target, left_out

    def _class_tree(self, path: Path) -> ImageTree:
        if self.source == "folder":
            return class_folder_tree(path, class_level=self.options.class_level)
        if self.source == "mini-imagenet":
            return mini_imagenet_tree(path, wnids=known_names(self.source))
        return cifar_class_tree(path, known_names(self.source), expected=_EXPECTED[self.source])

    def _omniglot_tree(self, path: Path) -> ImageTree:
        """Find drawings in folders, and in the archives of the two sets where these are not unpacked beside them."""
        archives = [
            file
            for folder in (path, *files_and_folders(path)[1])
            for file in _files(folder, is_archive)
            if archive_stem(file) in _OMNIGLOT_SETS and not os.path.isdir(folder / str(archive_stem(file)))
        ]
        if not archives or self.scratch is None:
            return omniglot_tree(path)
        target, left_out = self._unpacked(archives)
        tree = omniglot_tree(target)
        if any(
            os.path.isdir(folder / name) for folder in (path, *files_and_folders(path)[1]) for name in _OMNIGLOT_SETS
        ):
            there = omniglot_tree(path)
            for name, files in there.files.items():
                tree.files.setdefault(name, []).extend(files)
            tree.groups |= there.groups
            left_out += there.skipped
        tree.skipped[:0] = left_out
        return tree

    def _tree_set(self, tree: ImageTree) -> ImageSet:
        options, source = self.options, self.source
        read = read_tree(
            tree,
            size=options.size or _SIZES.get(source) or default_size(tree),
            channels=options.channels or (1 if source == "omniglot" else 3),
            invert={"auto": None, "yes": True, "no": False}[options.invert],
            # The released MAML code, data/miniImagenet/proc_images.py, resizes to 84x84 without cropping.
            fit="stretch" if source == "mini-imagenet" else "center-crop",
            progress=self.progress,
        )
        splits = tree.class_splits
        if splits is not None:
            usable = set(read.class_names)
            splits = {split: [name for name in names if name in usable] for split, names in splits.items()}
        groups = tree.groups or self._groups(read.class_names)
        names = tuple(read.class_names)
        return ImageSet(read.images, read.labels, names, read.preprocessing, groups, splits, tree.skipped)

    def _pickled_set(self, path: Path, parts: list[PickledPart]) -> ImageSet:
        self._refuse_options(path)
        found = read_pickled(parts, numbered=numbered_classes(self.source), progress=self.progress)
        found.class_groups = self._groups(found.class_names)
        return found

    def _cifar_set(self, path: Path) -> ImageSet:
        self._refuse_options(path)
        cifar = read_cifar(path)
        groups = dict(zip(cifar.class_names, cifar.class_groups, strict=True))
        preprocessing = Preprocessing(size=CIFAR_SIZE, channels=3)
        return ImageSet(cifar.images, cifar.labels, cifar.class_names, preprocessing, groups)

    def _groups(self, names: Iterable[str]) -> dict[str, str]:
        known = known_groups(self.source)
        return {name: known[name] for name in names} if known and set(names) <= set(known) else {}

    def _refuse_options(self, path: Path) -> None:
        if self.options != ImageOptions():
            raise DataError(
                shown(path),
                expected="no --size, --channels, --invert or --class-level",
                got="at least one of them",
                why="Its images are arrays already and are packed as they are",
                next_step=f"Make a pack of it: {command('data', 'import', self.source, str(path))}",
            )


def _elsewhere(source: str, splits: dict[str, list[str]]) -> list[str]:
    """Return the classes that lists put into another split than the published ones of a source."""
    if source not in PUBLISHED_SOURCES:
        return []
    published = published_split(source)
    return [name for split, names in splits.items() for name in names if name not in published[split]]


def _files(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    return [path for path in files_and_folders(folder)[0] if wanted(path)]


def _is_small_omniglot(path: Path) -> bool:
    return path.stem.startswith("images_background_small")


def _without_wrapper(folder: Path) -> None:
    """Take away a folder of the same name that holds all of an unpacked archive: birds/birds/ant becomes birds/ant."""
    entries = list(folder.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and entries[0].name == folder.name:
        inner = entries[0].rename(folder.parent / f".{folder.name}.inner")
        folder.rmdir()
        inner.rename(folder)


def _nothing(source: str, path: Path) -> DataError:
    return DataError(
        shown(path),
        expected=_EXPECTED[source],
        got="no class folder with an image in it, no pickle and no archive",
        next_step="See: mamlcli data import --help",
    )


def _not_read(path: Path) -> DataError:
    suffix = path.suffix.lower()
    next_step = _NOT_READ.get(suffix)
    if next_step is None and suffix in IMAGE_SUFFIXES:
        next_step = "Give the folder that holds the class folders"
    return DataError(
        shown(path),
        expected="a folder of images, an archive (.zip, .tar, .tar.gz) or a pickle (.pkl, .pickle)",
        got=f"a file {suffix}" if suffix else "a file",
        next_step=next_step or "See: mamlcli data import --help",
    )
