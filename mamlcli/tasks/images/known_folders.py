"""Finds class folders by the names that a source is known to have, at whatever depth they lie."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mamlcli.common.errors import DataError
from mamlcli.common.words import composed
from mamlcli.tasks.images.trees import ImageTree, image_files, subfolders

# As deep as SOURCE/wrapper/images/train/CLASS: links that lead in circles end there, too.
_MAX_DEPTH = 5
_WNID = re.compile(r"n\d{8}")


def known_class_tree(
    root: Path, names: frozenset[str], *, source: str, expected: str, is_class: Callable[[str], bool]
) -> ImageTree:
    """Return the image files of the class folders that have one of a source's names, merged where a name is met twice.

    Args:
        root: the folder; class folders lie in it or up to five folders below.
        names: the classes of the source.
        source: how messages call it, such as mini-ImageNet.
        expected: what may lie there, for the message that nothing does.
        is_class: whether a folder of a name is a class, of this source or not; those of others are listed as skipped.

    Raises:
        DataError: there is none, or a folder cannot be read.
    """
    tree = ImageTree()
    _find(root, names, source, is_class, tree, _MAX_DEPTH)
    tree.files = {name: files for name, files in sorted(tree.files.items()) if files}
    if not tree.files:
        raise DataError(
            str(root),
            expected=expected,
            got="no class folder of its",
            why=f"{tree.skipped[0][0]}: {tree.skipped[0][1]}" if tree.skipped else None,
            next_step="See: mamlcli data import --help",
        )
    return tree


def _find(
    folder: Path, names: frozenset[str], source: str, is_class: Callable[[str], bool], tree: ImageTree, depth: int
) -> None:
    for below in subfolders(folder, tree.skipped):
        name = composed(below.name)
        # CIFAR-100 has a class named train: a folder with class folders in it is none.
        if name in names and not any(composed(inner.name) in names for inner in subfolders(below, [])):
            _add(tree, name, image_files(below, tree.skipped))
        elif is_class(name):
            tree.skipped.append((str(below), f"not a class of {source}"))
        elif depth > 0:
            _find(below, names, source, is_class, tree, depth - 1)


def _add(tree: ImageTree, name: str, files: list[Path]) -> None:
    """Add the files of a class; a file that an earlier folder of the class has is the same image in a copy."""
    there = {path.name for path in tree.files.get(name, [])}
    for path in files:
        if there and path.name in there:
            tree.skipped.append((str(path), "a file of this name is in another folder of its class"))
        else:
            tree.files.setdefault(name, []).append(path)


def is_wordnet_id(name: str) -> bool:
    """Return whether a name is a WordNet id, as class folders of ImageNet have it."""
    return bool(_WNID.fullmatch(name))
