"""Tell which folders are classes, splits, groups, wrappers, or parts of a class: by depth, then by name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from mamlcli.common.errors import DataError
from mamlcli.common.words import shown
from mamlcli.tasks.images.folder_names import is_beside, is_part, is_plain, split_meant
from mamlcli.tasks.images.folders import Folder, Skipped

# The key of classes that lie in no folder of a split.
ALL = "all"
EMPTY_CLASS = "a class without a usable image"


@dataclass(frozen=True)
class ClassFolder:
    """A class folder holds the images of one class.

    Attributes:
        folder: where the images are.
        name: of the class: that of the folder, after that of the group if two groups have the same.
        group: the folder above, where that is no split.
    """

    folder: Folder
    name: str
    group: str | None = None


def _splits_in(folders: Sequence[Folder]) -> dict[str, list[Folder]]:
    """Return the folders that are named as a split, by split."""
    splits: dict[str, list[Folder]] = {"train": [], "validation": [], "test": []}
    for folder in folders:
        if (split := split_meant(folder.name)) is not None:
            splits[split].append(folder)
    plain = [folder for folder in splits["test"] if "eval" not in folder.name.lower()]
    if plain and len(plain) < len(splits["test"]):
        splits["validation"] += [folder for folder in splits["test"] if folder not in plain]
        splits["test"] = plain
    plain = [folder for folder in splits["train"] if "val" not in folder.name.lower()]
    splits["train"] = plain or splits["train"]
    return splits


def holds_splits(folder: Folder) -> bool:
    """Return whether at least two splits have a folder of their own in it, one of them with class folders."""
    named = [folders for folders in _splits_in(folder.folders).values() if folders]
    return len(named) > 1 and any(_holds_classes(split) for folders in named for split in folders)


def _holds_classes(folder: Folder) -> bool:
    """Return whether there are class folders in a folder of a split, not just images, or a folder `images` of them."""
    below = folder.bearing
    return bool(below) and not (len(below) == 1 and is_plain(below[0].name) and not below[0].bearing)


def classes_by_split(root: Folder, skipped: Skipped, *, class_level: int | None = None) -> dict[str, list[ClassFolder]]:
    """Return the class folders below a folder by split, or under "all" where there are no folders of splits.

    A folder is a class if it has images, or all its images lie in one folder below it. Where no folder has, the
    classes are one level down and the folders are their groups; unless what is in them are parts of a class.

    Args:
        root: the folder; one that does nothing but wrap another stands for that one.
        skipped: what is not taken, with the reason, is added to it.
        class_level: at which depth below `root` or its folders of splits the classes are, from 1; None finds it out.

    Raises:
        DataError: it is not clear which folders are classes; the message names them.
    """
    top = root if class_level else unwrapped(root, skipped)
    if class_level is None:
        _refuse_splits_of_images(top)
    splits = _split_folders(top, skipped) if holds_splits(top) else {ALL: [top]}
    parents = [
        (split, folder if class_level else unwrapped(folder, skipped))
        for split, folders in splits.items()
        for folder in folders
    ]
    for _, parent in parents:
        skipped += parent.unused(EMPTY_CLASS)
    folders = [folder for _, parent in parents for folder in parent.bearing]
    level = _at_level(folders, class_level, skipped) if class_level else _level(folders, skipped)
    classes: dict[str, list[ClassFolder]] = {split: [] for split in splits}
    for split, parent in parents:
        classes[split] += [found for folder in parent.bearing for found in level[folder]]
    return _named(classes)


def _named(classes: Mapping[str, list[ClassFolder]]) -> dict[str, list[ClassFolder]]:
    """Name classes with their groups, as in Greek/character01, where two groups have a class of the same name."""
    found = [one for of_split in classes.values() for one in of_split]
    if len({one.name for one in found}) == len(found) or not all(one.group for one in found):
        return dict(classes)
    return {
        split: [replace(one, name=f"{one.group}/{one.name}") for one in of_split] for split, of_split in classes.items()
    }


def _split_folders(folder: Folder, skipped: Skipped) -> dict[str, list[Folder]]:
    """Return the folders of each split; what lies beside them is noted as skipped."""
    splits = _splits_in(folder.folders)
    of_splits = [split for folders in splits.values() for split in folders]
    names = ", ".join(shown(split.name) for split in of_splits)
    for other in folder.bearing:
        if other not in of_splits:
            _refuse_unnamed_split(other, names)
            skipped.append((shown(other.path), f"beside the folders of the splits ({names})"))
    skipped += folder.unused()
    flat = [split for split in of_splits if split.holds_images and not _holds_classes(split)]
    skipped += [(shown(split.path), "images without class folders") for split in flat]
    kept = {split: [one for one in folders if one not in flat] for split, folders in splits.items()}
    if flat and sum(map(bool, kept.values())) < 2:
        return {ALL: [one for folders in kept.values() for one in folders]}
    return kept


def _refuse_splits_of_images(folder: Folder) -> None:
    """Refuse a folder in which nothing but folders of splits hold images, and none of them class folders."""
    splits = {split_meant(below.name) for below in folder.bearing}
    if len(splits) > 1 and None not in splits and not holds_splits(folder):
        raise DataError(
            shown(folder.path),
            expected=f"class folders in {', '.join(shown(below.name) for below in folder.bearing)}",
            got="images, and no class folder",
            next_step="Put the images of each class into a folder of their own",
        )


def _refuse_unnamed_split(folder: Folder, names: str) -> None:
    num_inner = len(core(folder).bearing)
    if num_inner > 1 and not (is_plain(folder.name) or is_beside(folder.name)):
        raise DataError(
            shown(folder.path),
            expected=f"no class folders beside those of the splits ({names})",
            got=f"{num_inner} folders with images",
            why="It is not clear which split they are of",
            next_step="Name it train, val or test, or move it elsewhere",
        )


def core(folder: Folder) -> Folder:
    """Return the first folder down from this one that has images, or more than one folder with images."""
    while not folder.images and len(folder.bearing) == 1:
        folder = folder.bearing[0]
    return folder


def unwrapped(folder: Folder, skipped: Skipped) -> Folder:
    """Return the folder whose folders are classes, groups or splits: this one, or one that it wraps."""
    while not holds_splits(folder) and (inner := _wrapped(folder)) is not None:
        skipped += folder.unused()
        beside = f"beside {shown(inner.path)}, which holds the classes"
        skipped += [(shown(other.path), beside) for other in folder.bearing if other is not inner]
        folder = inner
    return folder


def _wrapped(folder: Folder) -> Folder | None:
    """Return the folder that this one does nothing but wrap, or None."""
    inner = folder.bearing
    if any(is_plain(below.name) for below in inner):  # images/ beside segmentations/
        inner = [below for below in inner if not is_beside(below.name)]
    if len(inner) != 1:
        return None
    (below,) = inner
    if below.images:
        return below if len(below.bearing) > len(below.images) else None
    # A chain of folders that ends in one folder of images is a class, unless its name is none of a class.
    return below if not core(below).images or is_plain(below.name) else None


def _at_level(folders: Sequence[Folder], level: int, skipped: Skipped) -> dict[Folder, list[ClassFolder]]:
    """Return the classes at a depth, from 1, that each folder is or holds."""
    if level == 1:
        return {folder: [ClassFolder(folder, folder.name)] for folder in folders}
    for folder in folders:
        skipped += folder.unused(EMPTY_CLASS)
    inner = _at_level([below for folder in folders for below in folder.bearing], level - 1, skipped)
    return _grouped({folder: folder.bearing for folder in folders}, inner)


def _grouped(
    below: Mapping[Folder, Sequence[Folder]], level: Mapping[Folder, Sequence[ClassFolder]]
) -> dict[Folder, list[ClassFolder]]:
    """Return the classes in the folders below each folder, which is their group where they have none yet."""
    return {
        folder: [found if found.group else replace(found, group=folder.name) for one in inner for found in level[one]]
        for folder, inner in below.items()
    }


def _level(folders: Sequence[Folder], skipped: Skipped) -> dict[Folder, list[ClassFolder]]:
    """Return the classes that each folder is or holds."""
    as_classes = {folder: [ClassFolder(folder, folder.name)] for folder in folders}
    deep = [folder for folder in folders if not core(folder).images]
    if not deep:
        return as_classes
    _refuse_several_sets(deep)
    if len({_depth(folder) for folder in folders}) == 1:
        inner = {folder: folder for folder in folders}  # a folder with a single one in it may be a group, too
    else:
        inner = {folder: core(folder) for folder in deep}
    below = [folder for holder in inner.values() for folder in holder.bearing]
    are_leaves = all(core(folder).images for folder in below)
    if are_leaves and (
        all(is_part(folder.name) for folder in below) or median(len(core(folder).images) for folder in below) < 2
    ):
        return as_classes  # a class needs two images: where most have one, these are parts of classes
    _refuse_unclear([folder for folder in folders if folder not in inner], deep[0], below, are_leaves)
    for folder, holder in inner.items():
        skipped += _unused_down_to(holder, folder)
    return _grouped({folder: holder.bearing for folder, holder in inner.items()}, _level(below, skipped))


def _depth(folder: Folder) -> int:
    """Return how far below a folder the first images lie; 0 where it has images itself."""
    return 0 if folder.images else 1 + min(map(_depth, folder.bearing))


def _refuse_unclear(flat: Sequence[Folder], deep: Folder, below: Sequence[Folder], are_leaves: bool) -> None:
    if flat:
        raise _unclear(deep, f"images, as in {shown(flat[0].path)}")
    num_folders = Counter(folder.name for folder in below)
    twice = next((folder.name for folder in below if num_folders[folder.name] > 1), None)
    if are_leaves and twice is not None:
        raise _unclear(deep, f"images, or folders of names that are not in other folders as well, as {shown(twice)} is")


def _unused_down_to(last: Folder, folder: Folder) -> Skipped:
    """Say what is not taken of the folders from one down to the last."""
    rest = [] if folder is last else _unused_down_to(last, folder.bearing[0])
    return folder.unused(EMPTY_CLASS) + rest


def _refuse_several_sets(folders: Sequence[Folder]) -> None:
    sets = [core(folder) for folder in folders if holds_splits(core(folder))]
    if sets:
        raise DataError(
            shown(sets[0].path),
            expected="class folders",
            got=f"folders of splits, and {_listed([one for one in folders if core(one) is not sets[0]])} beside it",
            why="It seems to be a data set of its own",
            next_step=f"Name the one that is meant, such as {shown(sets[0].path)}",
        )


def _unclear(folder: Folder, right: str) -> DataError:
    inner = core(folder).bearing
    are_characters = all(re.fullmatch(r"character\d+", below.name) for below in inner)
    omniglot = "If this is Omniglot, run: mamlcli data import omniglot DIR. " if are_characters else ""
    return DataError(
        shown(folder.path),
        expected=right,
        got=f"{len(inner)} folders with images: {_listed(inner)}",
        why="It is not clear whether the folder is a class, or each folder in it",
        next_step=f"{omniglot}Say at which depth the classes are: --class-level 1 for the folders in the one that is "
        "named, 2 for those a level down (in a recipe, tasks.class_level)",
    )


def _listed(folders: Sequence[Folder]) -> str:
    return ", ".join(shown(folder.name) for folder in folders[:3]) + (", ..." if len(folders) > 3 else "")
