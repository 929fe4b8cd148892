"""Find which image files below a folder are of which class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import DataError
from mamlcli.common.words import printable, shown
from mamlcli.tasks.images.folder_names import are_no_classes, split_meant
from mamlcli.tasks.images.folders import Folder, Skipped, files_of_classes, open_folder
from mamlcli.tasks.images.levels import ALL, EMPTY_CLASS, ClassFolder, classes_by_split

_OMNIGLOT_SETS = ("images_background", "images_evaluation")
# A WordNet id, perhaps with the words of the class behind it.
_WNID = re.compile(r"(n\d{8})([\W_].*)?")


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

    def add(self, classes: Sequence[tuple[str, Folder]]) -> None:
        """Add the files of class folders; a class of which there are two folders gets the files of both."""
        found = files_of_classes([folder for _, folder in classes], self.skipped)
        for (name, _), files in zip(classes, found, strict=True):
            if files:
                self.files.setdefault(name, []).extend(files)


def omniglot_tree(root: Path) -> ImageTree:
    """Find the drawings `<alphabet>/<character>/<drawer>.png`, at any depth.

    Where there are folders images_background or images_evaluation, only these are taken. Class names are
    "<alphabet>/<character>", groups are alphabets.

    Raises:
        DataError: there are none, or two folders are the same character.
    """
    tree = ImageTree()
    top = open_folder(root)
    found: dict[str, Folder] = {}
    for set_of_alphabets in _omniglot_sets(top, tree.skipped) or [top]:
        for alphabet, character in _characters(set_of_alphabets, tree.skipped):
            name = f"{alphabet.name}/{character.name}"
            if name in found and found[name].real != character.real:
                raise DataError(
                    printable(root),
                    expected="one folder for each character",
                    got=f"two of {name}: {shown(found[name].path)} and {shown(character.path)}",
                    next_step="Name the folder that holds only one of the copies",
                )
            found.setdefault(name, character)
            tree.groups[name] = alphabet.name
    tree.add(list(found.items()))
    _require_classes(tree, root, "folders <alphabet>/<character> with drawings")
    return tree


def _omniglot_sets(folder: Folder, skipped: Skipped) -> list[Folder]:
    """Return the folders of the two sets below a folder, wherever; what lies beside them is noted as skipped."""
    sets: list[Folder] = []
    beside: Skipped = []
    for below in folder.bearing:
        is_set = below.name in _OMNIGLOT_SETS
        inner = [below] if is_set else [] if below.images else _omniglot_sets(below, skipped)
        sets += inner
        if not inner:
            beside.append((shown(below.path), f"beside {' and '.join(_OMNIGLOT_SETS)}"))
    if sets:
        skipped += folder.unused() + beside
    return sets


def _characters(folder: Folder, skipped: Skipped, *, is_top: bool = True) -> Iterator[tuple[Folder, Folder]]:
    """Yield (alphabet, character) for each folder with drawings; those right below the top have no alphabet."""
    skipped += folder.unused() if is_top else folder.unused(EMPTY_CLASS)
    for below in folder.bearing:
        if not below.images:
            yield from _characters(below, skipped, is_top=False)
        elif is_top:
            skipped.append((shown(below.path), "drawings in no folder <alphabet>/<character>"))
        else:
            yield folder, below


def mini_imagenet_tree(root: Path, *, wnids: frozenset[str]) -> ImageTree:
    """Find the class folders, named by WordNet id, at any depth.

    Args:
        root: the folder.
        wnids: the 100 classes of mini-ImageNet; other ids are listed as skipped, so that a folder of all of
            ImageNet can be given.

    Raises:
        DataError: there are none, or a class is in two places that are not folders of splits.
    """
    tree = ImageTree()
    places = list(_wnid_folders(open_folder(root), wnids, tree.skipped))
    is_split = {split_meant(parent.name) is not None for _, parent, _ in places}
    first: dict[str, Folder] = {}
    for wnid, parent, folder in places:
        if first.setdefault(wnid, folder).real != folder.real and False in is_split:
            raise DataError(
                printable(root),
                expected="one folder for each class",
                got=f"two of {wnid}: {shown(first[wnid].path)} and {shown(folder.path)}",
                next_step=f"Name the folder that holds only one of them, such as {shown(parent.path)}",
            )
    tree.add([(wnid, folder) for wnid, _, folder in places])
    tree.files = dict(sorted(tree.files.items()))
    _require_classes(tree, root, "class folders named as in n01532829")
    return tree


def _wnid_folders(folder: Folder, wnids: frozenset[str], skipped: Skipped) -> Iterator[tuple[str, Folder, Folder]]:
    """Yield (class, the folder that it is in, its folder) for each class folder."""
    skipped += folder.left_out + folder.stray
    for below in folder.folders:
        match = _WNID.fullmatch(below.name)
        if match and match[1] in wnids:
            yield match[1], folder, below
        elif match or (below.images and not below.bearing):
            skipped.append((shown(below.path), "not a class of mini-ImageNet"))
        elif below.bearing:
            yield from _wnid_folders(below, wnids, skipped)
        else:
            skipped.append((shown(below.path), below.problem or "no image in it"))


def class_folder_tree(root: Path, *, class_level: int | None = None) -> ImageTree:
    """Find class folders below `root`, or below its folders of splits (train, val, test and the like).

    Args:
        root: the folder; one that does nothing but wrap another stands for that one.
        class_level: how deep the class folders are below `root` or its folders of splits: 1 for those right in it, 2
            for those in groups, and so on; None finds it out, see `classes_by_split`.

    Raises:
        DataError: there are none, it is not clear which they are, or a class name is in two folders.
    """
    tree = ImageTree()
    classes = classes_by_split(open_folder(root), tree.skipped, class_level=class_level)
    found = [one for of_split in classes.values() for one in of_split]
    _refuse_same_names(found)
    tree.add([(one.name, one.folder) for one in found])
    tree.files = dict(sorted(tree.files.items()))
    tree.groups = {one.name: one.group for one in found if one.group}
    if ALL not in classes:
        tree.class_splits = {
            split: sorted(one.name for one in of_split if one.name in tree.files) for split, of_split in classes.items()
        }
    _require_classes(tree, root, "class folders with images")
    return tree


def _refuse_same_names(classes: Sequence[ClassFolder]) -> None:
    first: dict[str, Folder] = {}
    for one in classes:
        other = first.setdefault(one.name, one.folder)
        if other is not one.folder:
            raise DataError(
                printable(one.folder.path),
                expected="a class name that no other split has",
                got=f"{one.name!r}, as {shown(other.path)}",
                why="Splits of few-shot learning share no classes",
                next_step="Rename the folder, or import one of the folders above them, as in: "
                + command("data", "import", "folder", other.path.parent),
            )


def _require_classes(tree: ImageTree, root: Path, expected: str) -> None:
    if are_no_classes(tree.files):
        got = f"{tree.num_files} images in no other folder than {', '.join(tree.files)}"
    elif tree.num_files:
        return
    else:
        got = "no class folder with an image file"
    why = f"{tree.skipped[0][0]}: {tree.skipped[0][1]}" if tree.skipped else None
    raise DataError(printable(root), expected=expected, got=got, why=why, next_step="See: mamlcli data import --help")
