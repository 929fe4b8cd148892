"""Reads lists of images, train.csv, val.csv and test.csv beside one folder with all images, as mini-ImageNet comes."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from mamlcli.common.bounded import BoundError, read_regular
from mamlcli.common.errors import DataError
from mamlcli.common.words import composed, first_line, shown
from mamlcli.tasks.images.folder_names import split_meant
from mamlcli.tasks.images.folders import files_and_folders
from mamlcli.tasks.images.trees import ImageTree

_FILE_COLUMNS = ("filename", "file", "image", "image_name", "image_id", "path", "filepath", "name")
_LABEL_COLUMNS = ("label", "class", "class_name", "category", "wnid", "target")
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "data", "jpg", "jpeg")
_LIST_FOLDERS = ("split", "splits", "csv", "csvs", "filelists")
_MAX_LIST_BYTES = 200_000_000


def csv_lists(root: Path) -> dict[str, Path]:
    """Return the lists train.csv, val.csv and test.csv by split: in a folder, in its split/ or splits/, or below one
    folder in it; {} if there are none.
    """
    folders = [root, *(root / name for name in _LIST_FOLDERS)]
    folders += [below / name for below in files_and_folders(root)[1] for name in ("", *_LIST_FOLDERS)]
    for folder in folders:
        found = {split: path for path in _lists_in(folder) if (split := split_meant(path.stem)) is not None}
        if found:
            return found
    return {}


def _lists_in(folder: Path) -> list[Path]:
    return [path for path in files_and_folders(folder)[0] if path.suffix.lower() == ".csv"]


def csv_tree(root: Path, lists: dict[str, Path]) -> ImageTree | None:
    """Return the images that the lists name, by class; None if not one of them is there.

    A list has a row for each image, its file name and its class, in the columns `filename` and `label` or, without
    a header, in this order. Files are looked for beside the lists, in the folder above, and in images/ of both.

    Raises:
        DataError: a list cannot be read, or a class is in two of them.
    """
    tree = ImageTree(class_splits={"train": [], "validation": [], "test": []})
    missing: dict[Path, list[str]] = {}
    split_of: dict[str, str] = {}
    for split, path in lists.items():
        places = _places(root, path)
        for name, label in _rows(path):
            file = next((place / name for place in places if os.path.isfile(place / name)), None)
            if file is None:
                missing.setdefault(path, []).append(name)
                continue
            if split_of.setdefault(label, split) != split:
                raise _in_two_lists(path, label)
            tree.files.setdefault(label, []).append(file)
    if not tree.files:
        return None
    tree.files = dict(sorted(tree.files.items()))
    assert tree.class_splits is not None
    for name in tree.files:
        tree.class_splits[split_of[name]].append(name)
    if sum(bool(names) for names in tree.class_splits.values()) < 2:
        tree.class_splits = None
    for path, names in missing.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        tree.skipped.append((str(path), f"{shown(names[0])}{more} named in it and not there"))
    return tree


def _in_two_lists(path: Path, label: str) -> DataError:
    return DataError(
        f"{shown(path)}: {shown(label)}",
        expected="a class that no other list has",
        got="one that two lists name",
        why="Splits of few-shot learning share no classes",
        next_step="If the lists split images and not classes, move the images into class folders and import these",
    )


def _places(root: Path, path: Path) -> list[Path]:
    """Return the folders in which the files of a list may lie."""
    above = [path.parent] + ([path.parent.parent] if path.parent != root else [])
    return [folder / name for folder in above for name in ("", *_IMAGE_FOLDERS) if os.path.isdir(folder / name)]


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (file name, class) for each row."""
    try:
        text = read_regular(path, at_most=_MAX_LIST_BYTES).decode("utf-8-sig", "surrogateescape")
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (OSError, BoundError, csv.Error) as error:
        raise DataError(shown(path), expected="a list of images", got=first_line(error)) from error
    if not rows:
        return
    header = [cell.strip().lower() for cell in rows[0]]
    file_column = next((header.index(name) for name in _FILE_COLUMNS if name in header), None)
    label_column = next((header.index(name) for name in _LABEL_COLUMNS if name in header), None)
    has_header = file_column is not None and label_column is not None
    file_column, label_column = (file_column or 0, label_column or 0) if has_header else (0, 1)
    for row in rows[has_header:]:
        if len(row) > max(file_column, label_column):
            name = row[file_column].strip()
            if name and "\0" not in name and ".." not in Path(name).parts and not Path(name).is_absolute():
                yield name, composed(row[label_column].strip())
