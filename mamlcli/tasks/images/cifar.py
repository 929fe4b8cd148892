"""Read the CIFAR-100 files "for Python" (train, test, meta) without trusting them: they are pickles."""

from __future__ import annotations

import io
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.pickled import load_data

IMAGE_SIZE = 32
_MEMBERS = ("train", "test", "meta")
_FOLDER = "cifar-100-python"
_ARCHIVE = "cifar-100-python.tar.gz"

# The largest of the three files has 155 MB; an archive that unfolds to more is not CIFAR-100.
_MAX_MEMBER_BYTES = 400_000_000

# What one of the files holds; every value is checked before it is used.
Contents = dict[object, object]


@dataclass(frozen=True)
class Cifar:
    """This is CIFAR-100 as arrays: its two parts together, sorted by class.

    Attributes:
        images: [num_images, 32, 32, 3], uint8.
        labels: [num_images], int64.
        class_names: the fine names, sorted.
        class_groups: the superclass of each class.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    class_groups: tuple[str, ...]


def read_cifar(path: Path) -> Cifar:
    """Read CIFAR-100 from its folder, from a folder above it, or from the .tar.gz archive.

    Raises:
        DataError: a file is missing, damaged, not what CIFAR-100 holds, or names more than plain data.
    """
    where = str(path)
    parts = _archive_parts(path) if path.is_file() else _folder_parts(path)
    contents = {name: _load(f"{where}: {name}", parts[name]) for name in _MEMBERS}
    fine, coarse = (_names(where, contents["meta"], f"{kind}_label_names") for kind in ("fine", "coarse"))
    halves = [_half(f"{where}: {name}", contents[name], len(fine), len(coarse)) for name in ("train", "test")]
    images, labels, groups = (np.concatenate([half[part] for half in halves]) for part in range(3))
    return _sorted_by_class(images, labels, groups, fine, coarse)


def holds_cifar(path: Path) -> bool:
    """Return whether the files of CIFAR-100 are there: in a folder, one folder below, or in their archive."""
    if path.is_dir():
        folders = (path, path / _FOLDER)
        return (path / _ARCHIVE).is_file() or any(all((one / name).is_file() for name in _MEMBERS) for one in folders)
    if not path.is_file() or ".t" not in path.name.lower():
        return False
    try:
        with tarfile.open(path) as archive:
            first = [Path(member.name) for _, member in zip(range(5), archive, strict=False)]
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError):
        return False
    return any(member.name in _MEMBERS and member.parent.name == _FOLDER for member in first)


def _missing(where: str, got: str) -> DataError:
    return DataError(
        where,
        expected=f"the files {', '.join(_MEMBERS)} of CIFAR-100 for Python",
        got=got,
        next_step=f"Give the folder {_FOLDER} or the archive {_ARCHIVE}",
    )


def _folder_parts(path: Path) -> dict[str, bytes]:
    for folder in (path, path / _FOLDER):
        if all((folder / name).is_file() for name in _MEMBERS):
            return {name: _bytes(folder / name) for name in _MEMBERS}
    if (path / _ARCHIVE).is_file():
        return _archive_parts(path / _ARCHIVE)
    raise _missing(str(path), "a folder without them" if path.is_dir() else "no such file or folder")


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_MEMBER_BYTES + 1)
    except OSError as error:
        raise DataError(str(path), expected="a file that can be read", got=str(error)) from error
    if len(content) > _MAX_MEMBER_BYTES:
        raise _missing(str(path), f"a file of more than {_MAX_MEMBER_BYTES} bytes")
    return content


def _archive_parts(path: Path) -> dict[str, bytes]:
    """Read the three files out of the archive; nothing is unpacked to disk."""
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = Path(member.name).name
                if name in _MEMBERS and member.isfile() and member.size <= _MAX_MEMBER_BYTES:
                    stream = archive.extractfile(member)
                    parts[name] = stream.read() if stream else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise _missing(str(path), f"{type(error).__name__}: {error}") from error
    if len(parts) < len(_MEMBERS):
        raise _missing(str(path), f"an archive without {', '.join(sorted(set(_MEMBERS) - set(parts)))}")
    return parts


def _load(where: str, content: bytes) -> Contents:
    value = load_data(io.BytesIO(content), where, expected="a CIFAR-100 file")
    if not isinstance(value, dict):
        raise DataError(where, expected="a dictionary", got=type(value).__name__)
    return value


def _names(where: str, meta: Contents, key: str) -> list[str]:
    names = meta.get(key)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: meta", expected=f"a list of strings under {key!r}", got=type(names).__name__)
    if len(set(names)) < len(names):
        raise DataError(f"{where}: meta", expected=f"names under {key!r} that differ", got="repeated ones")
    return names


def _half(
    where: str, content: Contents, num_fine: int, num_coarse: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return images, fine labels and coarse labels of one of the two files."""
    data = content.get("data")
    num_values = 3 * IMAGE_SIZE**2
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (num_values,):
        got = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(where, expected=f"data uint8 [num_images, {num_values}]", got=got)
    images = data.reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE).transpose(0, 2, 3, 1)
    fine = _labels(where, content, "fine_labels", len(data), num_fine)
    return images, fine, _labels(where, content, "coarse_labels", len(data), num_coarse)


def _labels(where: str, content: Contents, key: str, num_images: int, num_names: int) -> NDArray[np.int64]:
    labels = content.get(key)
    if (
        not isinstance(labels, list)
        or len(labels) != num_images
        or not all(isinstance(label, int) and 0 <= label < num_names for label in labels)
    ):
        raise DataError(where, expected=f"{key}: {num_images} integers in [0, {num_names})", got=type(labels).__name__)
    return np.array(labels, dtype=np.int64)


def _sorted_by_class(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    fine: list[str],
    coarse: list[str],
) -> Cifar:
    """Renumber the classes by name and order the images by class; classes without images are left out."""
    present = sorted(set(labels.tolist()), key=lambda label: fine[label])
    number = np.zeros(len(fine), dtype=np.int64)
    number[present] = np.arange(len(present))
    order = np.argsort(number[labels], kind="stable")
    group_of = dict(zip(labels.tolist(), groups.tolist(), strict=True))
    return Cifar(
        images=np.ascontiguousarray(images[order]),
        labels=number[labels][order],
        class_names=tuple(fine[label] for label in present),
        class_groups=tuple(coarse[group_of[label]] for label in present),
    )
