"""Find and read a user's own support and query images, so that they become arrays like those of a run."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import DataError
from mamlcli.common.words import printable, shown
from mamlcli.tasks.images.deep import FULL
from mamlcli.tasks.images.folders import Skipped, image_files, subfolders
from mamlcli.tasks.images.ink import ImageRecord, grounds_are_bright, ink_extent, read_ink
from mamlcli.tasks.images.reading import deep_white
from mamlcli.tasks.images.tree_reading import Progress

FRAMES = ("file", "ink")
_BRIGHT, _DARK = "bright ground", "dark ground"


@dataclass(frozen=True)
class OwnFiles:
    """Own files are the image files of a user's support or query set.

    Attributes:
        root: the folder, or the one file.
        paths: the files, in a fixed order.
        class_names: for each file the name of its class folder; None beside and outside of class folders.
        skipped: (path, reason) for everything that was not taken.
    """

    root: Path
    paths: tuple[Path, ...]
    class_names: tuple[str | None, ...]
    skipped: Skipped = field(default_factory=list)


@dataclass(frozen=True)
class OwnImages:
    """Own images are a user's support or query set as arrays.

    Attributes:
        root: the folder, or the one file.
        paths, class_names: as in `OwnFiles`, of the files that could be read.
        images: [num_images, size, size, channels], uint8, as the network sees them.
        is_inverted: whether bright and dark were exchanged.
        inversion: why they were or were not, in words.
        extent: `ink_extent` of the images where the run was trained on drawings, else None.
        white: the value of 16-bit files that became 255.
        odd: files whose ground is not that of most; their prediction is not to be trusted.
        skipped: (path, reason) for everything that was not taken.
    """

    root: Path
    paths: tuple[Path, ...]
    class_names: tuple[str | None, ...]
    images: NDArray[np.uint8]
    is_inverted: bool
    inversion: str
    extent: float | None
    odd: tuple[Path, ...]
    skipped: Skipped
    white: int = FULL


def find_support(root: Path) -> OwnFiles:
    """Find the class folders of a support set; a class is a folder right below `root`.

    Raises:
        DataError: `root` is no folder, or cannot be read.
    """
    if not root.is_dir():
        raise DataError(
            f"--support {shown(root)}",
            expected="a folder with one folder of images for each class",
            got="a file" if root.exists() else "no such folder",
        )
    skipped: Skipped = []
    return _with_class_folders(root, subfolders(root, skipped), [], skipped)


def find_query(root: Path) -> OwnFiles:
    """Find the images to classify: one file, or all files in a folder and the folders below it.

    Raises:
        DataError: there is nothing at `root`, or it cannot be read.
    """
    if root.is_dir():
        skipped: Skipped = []
        loose = image_files(root, skipped, with_folders=False)
        return _with_class_folders(root, subfolders(root, []), loose, skipped)
    if not root.is_file():
        got = "something that is no regular file" if root.exists() else "no such file or folder"
        raise DataError(f"--query {shown(root)}", expected="an image or a folder of images", got=got)
    return OwnFiles(root, (root,), (None,))


def _with_class_folders(root: Path, folders: list[Path], loose: list[Path], skipped: Skipped) -> OwnFiles:
    paths: list[Path] = list(loose)
    names: list[str | None] = [None] * len(loose)
    for folder in folders:
        files_of_class = image_files(folder, skipped)
        if not files_of_class:
            skipped.append((str(folder), "no image in it"))
        paths += files_of_class
        # Composed, so that a name typed on one system is the same name on another.
        names += [printable(unicodedata.normalize("NFC", folder.name))] * len(files_of_class)
    return OwnFiles(root, tuple(paths), tuple(names), skipped)


def read_own_images(
    files: OwnFiles,
    record: ImageRecord,
    *,
    invert: str,
    frame: str = "file",
    white: int = FULL,
    progress: Progress | None = None,
) -> OwnImages:
    """Read files as the run's own images were read, and list those that cannot be read.

    Args:
        files: the files to read.
        record: of the run's images.
        invert: "yes", "no", or "auto": `ImageRecord.must_invert` decides once for all of them.
        frame: "file", as training does it; or "ink", see `read_ink`, for runs that were trained on drawings.
        white: of the 16-bit files of the same kind that were read before (a support set); by default not known.
        progress: is called with (files read, files in all).

    Raises:
        DataError: frame is unknown, or does not suit the run.
    """
    _check_frame(frame, record)
    preprocessing = replace(record.preprocessing, invert=False, white=_white(files, record, white))
    size, channels = preprocessing.size, preprocessing.channels
    arrays = np.empty((len(files.paths), size, size, channels), dtype=np.uint8)
    indices_read: list[int] = []
    skipped = list(files.skipped)
    for index, path in enumerate(files.paths):
        try:
            if frame == "ink" and record.extent is not None:
                arrays[len(indices_read)] = read_ink(path, preprocessing, extent=record.extent)
            else:
                arrays[len(indices_read)] = preprocessing.read(path)
            indices_read.append(index)
        except DataError as error:
            skipped.append((str(path), error.got or "unreadable"))
        if progress:
            progress(index + 1, len(files.paths))
    images = arrays[: len(indices_read)]
    paths = tuple(files.paths[index] for index in indices_read)
    is_inverted = record.must_invert(images) if invert == "auto" else invert == "yes"
    inversion, odd = _inversion(images, record, invert)
    return OwnImages(
        root=files.root,
        paths=paths,
        class_names=tuple(files.class_names[index] for index in indices_read),
        images=(255 - images).astype(np.uint8) if is_inverted else images,
        is_inverted=is_inverted,
        inversion=inversion,
        extent=ink_extent(images) if record.extent is not None and len(images) else None,
        odd=tuple(path for path, is_odd in zip(paths, odd, strict=True) if is_odd),
        skipped=skipped,
        white=preprocessing.white,
    )


def _check_frame(frame: str, record: ImageRecord) -> None:
    if frame not in FRAMES:
        raise DataError("--frame", expected=f"one of {', '.join(FRAMES)}", got=repr(frame))
    if frame == "ink" and record.extent is None:
        raise DataError("--frame", expected="'file' with a run that was not trained on drawings", got=repr(frame))


def _white(files: OwnFiles, record: ImageRecord, before: int) -> int:
    """Return the white of 16-bit files: it fits the files and, where known, those of the run and those read before."""
    known = [white for white in (record.preprocessing.white, before) if white != FULL]
    return max([deep_white(files.paths), *known])


def _inversion(images: NDArray[np.uint8], record: ImageRecord, invert: str) -> tuple[str, NDArray[np.bool_]]:
    """Return why images are inverted or not, and which of them have another ground than most."""
    if not record.is_of_drawings or not len(images):
        return ("as asked" if invert != "auto" else "as in training"), np.zeros(len(images), dtype=bool)
    bright = grounds_are_bright(images)
    is_mostly_bright = bool(np.mean(bright) > 0.5)
    ground_here = _BRIGHT if is_mostly_bright else _DARK
    ground_in_training = _BRIGHT if record.border > 127.5 else _DARK
    why = "as asked" if invert != "auto" else f"{ground_here} here, {ground_in_training} in training"
    return why, bright != is_mostly_bright
