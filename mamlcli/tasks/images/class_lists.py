"""Reads lists of class names, train.txt, val.txt and test.txt beside class folders, as CIFAR-FS comes."""

from __future__ import annotations

from pathlib import Path

from mamlcli.common.words import composed
from mamlcli.tasks.images.folder_names import split_meant
from mamlcli.tasks.images.folders import files_and_folders

_LIST_FOLDERS = ("split", "splits")
_MAX_LIST_BYTES = 10_000_000


def read_class_lists(root: Path, class_names: set[str]) -> tuple[dict[str, list[str]], list[Path]] | None:
    """Return the class names that lists give to "train", "validation" and "test", and the files of the lists.

    Lists lie in the folder, in its split/ or splits/, or in a folder of these, as splits/bertinetto; a line is the
    name of a class. Names that are no class here are left out.

    Args:
        root: the folder.
        class_names: the classes that are here.

    Returns:
        None where there are no lists of classes that are here, where they name a class twice, or where there is more
        than one set of lists.
    """
    above = [root, *(root / name for name in _LIST_FOLDERS)]
    folders = above + [below for folder in above[1:] for below in files_and_folders(folder)[1]]
    found = [lists for folder in folders if (lists := _lists_in(folder, class_names))]
    return found[0] if len(found) == 1 else None


def _lists_in(folder: Path, class_names: set[str]) -> tuple[dict[str, list[str]], list[Path]] | None:
    paths = {}
    for path in files_and_folders(folder)[0]:
        split = split_meant(path.stem)
        if path.suffix == ".txt" and split is not None and path.stat().st_size <= _MAX_LIST_BYTES:
            paths[split] = path
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for split, path in paths.items():
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        splits[split] = sorted({composed(line.strip()) for line in lines} & class_names)
    named = [name for names in splits.values() for name in names]
    if not all(splits.get(split) for split in ("train", "test")) or len(set(named)) < len(named):
        return None
    return splits, list(paths.values())
