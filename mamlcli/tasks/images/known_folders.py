"""Finds the class folders of CIFAR-100 by their names, at whatever depth they lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mamlcli.common.errors import DataError
from mamlcli.common.words import printable, shown
from mamlcli.tasks.images.folder_names import split_meant
from mamlcli.tasks.images.folders import Folder, Skipped, open_folder
from mamlcli.tasks.images.trees import ImageTree


def cifar_class_tree(root: Path, names: frozenset[str], *, expected: str) -> ImageTree:
    """Return the image files of the class folders that have the names of CIFAR-100's classes, such as apple/.

    Args:
        root: the folder; class folders lie in it or in folders below.
        names: the classes.
        expected: what may lie there, for the message that nothing does.

    Raises:
        DataError: there is none, or a class is in two places that are not folders of splits.
    """
    tree = ImageTree()
    places = list(_class_folders(open_folder(root), names, tree.skipped))
    is_split = {split_meant(parent.name) is not None for parent, _ in places}
    first: dict[str, Folder] = {}
    for parent, folder in places:
        if first.setdefault(folder.name, folder).real != folder.real and False in is_split:
            raise DataError(
                printable(root),
                expected="one folder for each class",
                got=f"two of {folder.name}: {shown(first[folder.name].path)} and {shown(folder.path)}",
                next_step=f"Name the folder that holds only one of them, such as {shown(parent.path)}",
            )
    tree.add([(folder.name, folder) for _, folder in places])
    tree.files = dict(sorted(tree.files.items()))
    if not tree.files:
        why = f"{tree.skipped[0][0]}: {tree.skipped[0][1]}" if tree.skipped else None
        raise DataError(
            printable(root),
            expected=expected,
            got="no class folder of its",
            why=why,
            next_step="See: mamlcli data import --help",
        )
    return tree


def _class_folders(folder: Folder, names: frozenset[str], skipped: Skipped) -> Iterator[tuple[Folder, Folder]]:
    """Yield (the folder that it is in, its folder) for each class folder."""
    skipped += folder.left_out + folder.stray
    for below in folder.folders:
        # CIFAR-100 has a class named train: a folder with class folders in it is none.
        if below.name in names and not any(inner.name in names for inner in below.folders):
            yield folder, below
        elif below.bearing:
            yield from _class_folders(below, names, skipped)
        elif below.images:
            skipped.append((shown(below.path), "not a class of CIFAR-100"))
        else:
            skipped.append((shown(below.path), below.problem or "no image in it"))
