"""List what is in a folder of images: links are followed but never in a circle, system files are left out."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mamlcli.common.errors import DataError
from mamlcli.common.words import composed, printable
from mamlcli.tasks.images.reading import IMAGE_SUFFIXES

Skipped = list[tuple[str, str]]

# What operating systems, NAS and tools leave in folders of images, in lower case, and who does. Names that begin
# with a dot need no entry: .DS_Store, ._cat.jpg, .Trashes, .git, .ipynb_checkpoints, .thumbnails.
_LEFT_BY = {
    "@eadir": "a NAS (Synology)",
    "@tmp": "a NAS (Synology)",
    "#recycle": "a NAS (Synology)",
    "#snapshot": "a NAS (Synology)",
    "@recycle": "a NAS (QNAP)",
    "@recently-snapshot": "a NAS (QNAP)",
    "@__thumb": "a NAS (QNAP)",
    "~snapshot": "a NAS (NetApp)",
    "$recycle.bin": "Windows",
    "recycler": "Windows",
    "system volume information": "Windows",
    "thumbs.db": "Windows",
    "ehthumbs.db": "Windows",
    "ehthumbs_vista.db": "Windows",
    "desktop.ini": "Windows",
    "icon\r": "a Mac",
    "network trash folder": "a Mac",
    "temporary items": "a Mac",
    "lost+found": "a check of the file system",
}


class Folder:
    """A folder below a root; what is in it is read once, when it is asked for.

    Attributes:
        path: as it is reached, perhaps through a link.
        real: the same folder without links, which tells whether two are one.
        is_link: whether it is itself a link to a folder.
        name: the last part of its path, composed and printable: what a class is called.
    """

    def __init__(self, path: Path, above: Folder | None = None) -> None:
        self.path = path
        # The name of "." and of ".." is that of the folder; that of a link is its own.
        self.name = composed(printable(path.name if above else os.path.basename(os.path.abspath(path))))
        self.real = os.path.realpath(path)
        self.is_link = above is not None and self.real != os.path.join(above.real, path.name)
        # A link to any folder that holds this one would be read again and again.
        holders = above._holders if above else frozenset(map(str, Path(self.real).parents))
        self._holders: frozenset[str] = holders | {self.real}
        self._known: dict[str, bool] = above._known if above else {}

    @functools.cached_property
    def _listing(self) -> _Listing:
        return _Listing(self, self._holders)

    @property
    def problem(self) -> str | None:
        """Why the folder cannot be read, or None."""
        return self._listing.problem

    @property
    def content(self) -> list[Folder | Path]:
        """The folders and the image files in it, by name."""
        return self._listing.content

    @property
    def left_out(self) -> Skipped:
        """What is in it and of no use wherever it lies: system files, links in circles."""
        return self._listing.left_out

    @property
    def others(self) -> Skipped:
        """The files in it that are no images by their name, or cannot be reached."""
        return self._listing.others

    @property
    def folders(self) -> list[Folder]:
        return [entry for entry in self.content if isinstance(entry, Folder)]

    @property
    def images(self) -> list[Path]:
        return [entry for entry in self.content if isinstance(entry, Path)]

    @property
    def holds_images(self) -> bool:
        """Whether there is an image file in it or below."""
        if self.real not in self._known:
            self._known[self.real] = False  # while its links are followed: the way back to it holds nothing new
            self._known[self.real] = bool(self.images) or any(below.holds_images for below in self.folders)
        return self._known[self.real]

    @functools.cached_property
    def bearing(self) -> list[Folder]:
        """The folders in it that hold images, at whatever depth."""
        return [below for below in self.folders if below.holds_images]

    @property
    def stray(self) -> Skipped:
        """The files in it, where its folders are of use and files are not."""
        paths = sorted([printable(path) for path in self.images] + [path for path, _ in self.others])
        return [(path, "not in a class folder") for path in paths]

    def unused(self, reason: str = "no image in it") -> Skipped:
        """Say what is not taken of this folder where the folders in it that hold images are of use."""
        empty = [below for below in self.folders if not below.holds_images]
        return self.left_out + self.stray + [(printable(below.path), below.problem or reason) for below in empty]


class _Listing:
    """What is in one folder, sorted by composed name, so that a copy on a Mac has the same order."""

    def __init__(self, folder: Folder, holders: frozenset[str]) -> None:
        self.problem: str | None = None
        self.content: list[Folder | Path] = []
        self.left_out: Skipped = []
        self.others: Skipped = []
        try:
            with os.scandir(folder.path) as entries:
                found = sorted(entries, key=lambda entry: (composed(entry.name), entry.name))
            if found:
                os.lstat(found[0].path)  # a folder may be listed and not entered; all its files fail then
        except OSError as error:
            self.problem = f"a folder that cannot be read: {error.strerror or error}"
            return
        for entry in found:
            self._take(entry, folder, holders)

    def _take(self, entry: os.DirEntry[str], folder: Folder, holders: frozenset[str]) -> None:
        path = folder.path / entry.name
        shown = printable(path)
        if (reason := _system_reason(entry.name)) is not None:
            self.left_out.append((shown, reason))
            return
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:
            self.others.append((shown, f"cannot be read: {error.strerror or error}"))
            return
        if is_folder:
            below = Folder(path, folder)
            if below.real in holders:
                self.left_out.append((shown, "a link to a folder that it lies in; such links are not followed"))
            else:
                self.content.append(below)
        elif not is_file:
            self.others.append((shown, "no regular file, or a link to nothing"))
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            self.others.append((shown, f"not an image by its name ({path.suffix or 'no suffix'})"))
        else:
            self.content.append(path)


def _system_reason(name: str) -> str | None:
    if name.lower() in _LEFT_BY:
        return f"left by {_LEFT_BY[name.lower()]}"
    if name.startswith("."):
        return "hidden: its name begins with a dot"
    # As __MACOSX, which holds a shadow of every file, and __pycache__.
    return "left by a program: its name begins with __" if name.startswith("__") else None


def telling_first(skipped: Sequence[tuple[str, str]]) -> Skipped:
    """Return what was skipped in an order of which the beginning tells most: one of each reason, system files last."""
    num_before: Counter[str] = Counter()
    keys = []
    for _, reason in skipped:
        keys.append((reason.startswith(("left by", "hidden")), num_before[reason]))
        num_before[reason] += 1
    return [entry for _, entry in sorted(zip(keys, skipped, strict=True), key=lambda keyed: keyed[0])]


def open_folder(path: Path) -> Folder:
    """Return the folder that a user named.

    Raises:
        DataError: it is none, or cannot be read.
    """
    if not os.path.isdir(path):
        got = "a file" if os.path.exists(path) else "no such folder"
        raise DataError(printable(path), expected="a folder of images", got=got)
    folder = Folder(path)
    if folder.problem:
        raise DataError(printable(path), expected="a folder that can be read", got=folder.problem)
    return folder


def files_and_folders(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the folders in a folder, by name, without what systems leave; none if it cannot be read."""
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if _system_reason(entry.name) is None]
    except OSError:
        return [], []
    paths = sorted(path / entry.name for entry in found)
    return [one for one in paths if os.path.isfile(one)], [one for one in paths if os.path.isdir(one)]


def subfolders(path: Path, skipped: Skipped) -> list[Path]:
    """Return the folders in a folder; files that stand beside them are noted as skipped."""
    folder = open_folder(path)
    skipped += folder.left_out + folder.stray
    return [below.path for below in folder.folders]


def image_files(path: Path, skipped: Skipped, *, with_folders: bool = True) -> list[Path]:
    """Return the image files in a folder (and the folders below it); all else is noted as skipped."""
    folder = Folder(path)
    if with_folders:
        return files_of_classes([folder], skipped)[0]
    skipped += folder.left_out + folder.others
    return folder.images


def files_of_classes(classes: Sequence[Folder], skipped: Skipped) -> list[list[Path]]:
    """Return the image files in and below each class folder, by name; no folder is read twice.

    Where a folder is reached twice it belongs to the class that holds it, not to one that links to it, and among
    links to the first; the other is noted as skipped, as is all that is no image.
    """
    readers: dict[str, Folder] = {}
    for folder in sorted(classes, key=lambda folder: folder.is_link):
        for held in _held(folder):
            readers.setdefault(held.real, held)
    return [list(_files(folder, readers, skipped)) for folder in classes]


def _held(folder: Folder) -> Iterator[Folder]:
    """Yield a folder and all below it that are reached without another link."""
    yield folder
    for below in folder.folders:
        if not below.is_link:
            yield from _held(below)


def _files(folder: Folder, readers: dict[str, Folder], skipped: Skipped) -> Iterator[Path]:
    reader = readers.setdefault(folder.real, folder)
    if reader is not folder:
        skipped.append((printable(folder.path), f"the same folder as {printable(reader.path)}, which is read"))
        return
    if folder.problem:
        skipped.append((printable(folder.path), folder.problem))
    skipped += folder.left_out + folder.others
    for entry in folder.content:
        if isinstance(entry, Folder):
            yield from _files(entry, readers, skipped)
        else:
            yield entry
