"""Read and write packs: a pack is a whole image set in one `.npz` file, without pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.bounded import check_memory
from mamlcli.common.disk import write_error
from mamlcli.common.errors import DataError
from mamlcli.common.files import cache_dir, data_dir, whole_file
from mamlcli.common.words import composed, first_line
from mamlcli.tasks.images.pack_files import NEEDED, Header, PackArray, no_pack, opened_pack, read_array

# Names of files have 255 bytes at most; a class may be named by its folder and the folders above it.
_MOST_LETTERS = 1000


@dataclass(frozen=True)
class PackSource:
    """The source of a pack is what its file says of where it comes from; others may write anything there, or nothing.

    Attributes:
        record: as in the file: JSON values by name.
    """

    record: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """The source that the pack was imported from, such as omniglot."""
        return self._text("name")

    @property
    def licence(self) -> str | None:
        """The licence of the images, in a few words."""
        return self._text("licence")

    @property
    def preprocessing(self) -> Mapping[str, object]:
        """How files became images, as `Preprocessing.to_dict` gives it; empty where the pack does not say it so."""
        recorded = self.record.get("preprocessing")
        return recorded if isinstance(recorded, dict) else {}

    @property
    def class_splits(self) -> dict[str, tuple[str, ...]] | None:
        """The class names of each split, where the images lay in folders of splits."""
        recorded = self.record.get("class_splits")
        if not isinstance(recorded, dict):
            return None
        return {
            str(split): tuple(str(name) for name in names)
            for split, names in recorded.items()
            if isinstance(names, list)
        }

    def _text(self, key: str) -> str | None:
        value = self.record.get(key)
        return str(value) if value else None

    def to_json(self) -> dict[str, object]:
        """Return the record, for the pack's file and for the manifest of a run."""
        return dict(self.record)

    @classmethod
    def from_json(cls, value: object) -> PackSource:
        """Return the source of which `to_json` gave the value; anything but an object becomes a note."""
        return cls(value if isinstance(value, dict) else {"note": value})


@dataclass(frozen=True)
class Pack:
    """A pack is a set of labelled images of one size.

    Attributes:
        images: [num_images, height, width, channels], uint8, channels 1 or 3.
        labels: [num_images], int64, each in [0, num_classes).
        class_names: [num_classes], unique, in the order of the labels.
        class_groups: [num_classes], the group of each class (alphabet, superclass, script); None if there
            are none.
        source: licence, citation, preprocessing and the like.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    class_groups: tuple[str, ...] | None = None
    source: PackSource = PackSource()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def class_counts(self) -> NDArray[np.int64]:
        """Return the number of images of each class, [num_classes] int64."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)


def pack_digest(pack: Pack) -> str:
    """Return a digest of images, labels and class names, to tell whether two runs saw the same data."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.ascontiguousarray(pack.images).data)
    digest.update(np.ascontiguousarray(pack.labels).data)
    digest.update("\n".join(pack.class_names).encode())
    return digest.hexdigest()


def find_pack(name: str) -> Path | None:
    """Return the path of `<name>.npz` in $MAMLCLI_DATA, else in the user's cache; None if neither has it."""
    for folder in dict.fromkeys((data_dir(), cache_dir())):
        for path in (folder / f"{name}.npz", folder / f"{composed(name)}.npz"):
            if os.path.isfile(path):  # which Path.is_file does not answer in a folder that is closed to the user
                return path
    return None


def load_pack(path: Path) -> Pack:
    """Read a pack and check that it is one; its arrays are read only where their headers fit together and the file.

    Raises:
        DataError: the file is missing, no `.npz`, truncated, holds Python objects, lacks an array, unfolds to more
            than a file of its size may, or its arrays do not have the dtypes and shapes of `Pack`.
    """
    with opened_pack(path) as (archive, headers):
        _check_headers(str(path), headers)
        check_memory(sum(header.num_bytes for header in headers.values()), f"the arrays of {path}")
        arrays = {key: read_array(archive, key) for key in headers}
    return _checked(str(path), arrays)


@dataclass(frozen=True)
class PackHeader:
    """The header of a pack is its shapes and source, which can be read without its images."""

    num_images: int
    height: int
    width: int
    channels: int
    num_classes: int
    source: PackSource


def read_header(path: Path) -> PackHeader:
    """Read the shapes and the source of a pack, which takes a few kilobytes of its file, however large it is.

    Raises:
        DataError: the file is missing or no pack. The images themselves may still be damaged.
    """
    with opened_pack(path) as (archive, headers):
        _check_headers(str(path), headers)
        num_images, height, width, channels = headers["images"].shape
        (num_classes,) = headers["class_names"].shape
        source = _source(read_array(archive, "source")) if "source" in headers else PackSource()
        return PackHeader(num_images, height, width, channels, num_classes, source)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of a pack's classes without its images.

    Raises:
        DataError: the file is missing or no pack.
    """
    with opened_pack(path) as (archive, headers):
        _check_headers(str(path), headers)
        return tuple(map(str, read_array(archive, "class_names")))


def _source(array: PackArray) -> PackSource:
    """Return what the JSON in the `source` array says; ValueError if it is none."""
    return PackSource.from_json(json.loads(str(array)))


def _wrong(where: str, expected: str, got: str) -> DataError:
    return no_pack(where, expected, got, "Make the pack again: mamlcli data import --help")


def _check_headers(where: str, headers: Mapping[str, Header]) -> None:
    """Raise DataError for the first array whose type or shape is not that of a pack."""
    images, labels, names = (headers[key] for key in NEEDED)
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise _wrong(where, "images uint8 [num_images, height, width, 1 or 3]", f"{images}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise _wrong(where, f"labels int64 [{images.shape[0]}]", f"{labels}")
    if names.dtype.kind != "U" or len(names.shape) != 1:
        raise _wrong(where, "class_names unique str [num_classes]", f"{names}")
    if labels.shape[0] == 0:
        raise _wrong(where, "at least one image", "none")
    groups, source = headers.get("class_groups"), headers.get("source")
    if groups is not None and (groups.dtype.kind != "U" or groups.shape != names.shape):
        raise _wrong(where, f"class_groups str {list(names.shape)}", f"{groups}")
    if source is not None and (source.dtype.kind != "U" or source.shape):
        raise _wrong(where, "source to be a JSON string", f"{source}")


def _checked(where: str, arrays: dict[str, PackArray]) -> Pack:
    """Return arrays whose headers are right as a Pack, or raise DataError for the first thing that is wrong in them."""
    images, labels, names = arrays["images"], arrays["labels"], arrays["class_names"]
    if len(set(names.tolist())) != len(names):
        raise _wrong(where, "class_names unique str [num_classes]", f"{names.dtype} {list(names.shape)}")
    if labels.min() < 0 or labels.max() >= len(names):
        raise _wrong(where, f"labels in [0, {len(names)})", f"{int(labels.min())} to {int(labels.max())}")
    groups = arrays.get("class_groups")
    for name in (*names.tolist(), *(() if groups is None else groups.tolist())):
        _check_name(where, str(name))
    try:
        source = _source(arrays["source"]) if "source" in arrays else PackSource()
    except (ValueError, RecursionError) as error:
        raise _wrong(where, "source to be a JSON string", first_line(error)) from error
    return Pack(
        images=images.astype(np.uint8, copy=False),
        labels=labels.astype(np.int64, copy=False),
        class_names=tuple(names.tolist()),
        class_groups=None if groups is None else tuple(groups.tolist()),
        source=source,
    )


def _check_name(where: str, name: str) -> None:
    """Raise DataError for a name of a class that cannot be written, or would fill the screen."""
    if len(name) > _MOST_LETTERS:
        raise _wrong(where, f"class names of at most {_MOST_LETTERS:,} characters", f"one of {len(name):,}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _wrong(where, "class names of whole characters", f"half of a pair: {name[:20]!r}") from None


def save_pack(pack: Pack, path: Path) -> None:
    """Write a pack; the file is then the whole new pack or, after an error, what was there before.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    arrays: dict[str, PackArray] = {
        "images": pack.images,
        "labels": pack.labels,
        "class_names": np.array(pack.class_names, dtype=np.str_),
        "source": np.array(json.dumps(pack.source.to_json(), ensure_ascii=False)),
    }
    if pack.class_groups is not None:
        arrays["class_groups"] = np.array(pack.class_groups, dtype=np.str_)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise write_error(
            error,
            str(path),
            expected="a folder that can be written, with room for the pack",
            next_step="Set MAMLCLI_DATA to a folder of yours",
            kind=DataError,
        ) from error


def select_classes(pack: Pack, names: Iterable[str], *, where: str) -> list[int]:
    """Return the labels of the named classes.

    Raises:
        DataError: some are not in the pack; the message names them.
    """
    index = {name: label for label, name in enumerate(pack.class_names)}
    wanted = list(names)
    missing = [name for name in wanted if name not in index]
    if missing:
        shown = ", ".join(missing[:25]) + (f" and {len(missing) - 25} more" if len(missing) > 25 else "")
        raise DataError(
            where,
            expected=f"all {len(wanted)} classes of the split in the pack",
            got=f"{len(missing)} missing: {shown}",
            next_step="Use another split (such as evaluation.split=validation), or import the full set: "
            "mamlcli data import --help",
        )
    return [index[name] for name in wanted]
