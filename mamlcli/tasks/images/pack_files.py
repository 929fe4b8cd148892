"""Opens the file of a pack: the headers of its arrays are read, and refused, before any of the arrays."""

from __future__ import annotations

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.bounded import BoundError, open_regular, refuse_unfolding
from mamlcli.common.errors import DataError, MamlError
from mamlcli.common.words import first_line

# What is in a pack's file; a file that others made may hold anything else, which is refused.
PackArray = NDArray[np.uint8] | NDArray[np.int64] | NDArray[np.str_]

# A pack holds these arrays, the last two if it likes; whatever else is in its file is not read.
NEEDED = ("images", "labels", "class_names")
_KEYS = (*NEEDED, "class_groups", "source")

# The header of an array in a file: a few words; NumPy reads no longer one.
_HEADER_BYTES = 10_000


@dataclass(frozen=True)
class Header:
    """The header of an array says what it will be, before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.uint8] | np.dtype[np.int64] | np.dtype[np.str_]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def _header(archive: zipfile.ZipFile, key: str) -> Header:
    """Return the header of an array.

    Raises:
        ValueError: it does not fit what is behind it; and whatever NumPy raises.
    """
    from numpy.lib import format as npy

    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as member:
        head = io.BytesIO(member.read(_HEADER_BYTES + 12))  # the header says its own length, up to 4 GB
    version = npy.read_magic(head)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(head)
    header = Header(tuple(map(int, shape)), dtype)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which are pickles")
    if min(header.shape, default=0) < 0 or head.tell() + header.num_bytes != info.file_size:
        raise ValueError(f"{key} of {header} in {info.file_size:,} bytes")
    return header


def read_array(archive: zipfile.ZipFile, key: str) -> PackArray:
    """Return an array whose header was read before; raises what NumPy and zipfile do."""
    with archive.open(f"{key}.npy") as member:
        array: PackArray = np.lib.format.read_array(member, allow_pickle=False)
        return array


@contextlib.contextmanager
def opened_pack(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, Header]]]:
    """Open a pack and read the headers of its arrays; whatever is wrong with the file is a DataError.

    Raises:
        DataError: it is no regular file or no `.npz`, lacks an array, holds Python objects, has a header that does not
            fit its array, or unfolds to more than a file of its size may.
    """
    where = str(path)
    try:
        with open_regular(path) as stream:
            if stream.read(6) == b"\x93NUMPY":
                raise no_pack(where, "an .npz archive", "a bare .npy array")
            with zipfile.ZipFile(stream) as archive:
                members = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
                if missing := [key for key in NEEDED if key not in members]:
                    found = ", ".join(sorted(members))[:200] or "none"
                    raise no_pack(where, f"arrays {', '.join(missing)}", found)
                headers = {key: _header(archive, key) for key in _KEYS if key in members}
                size = os.fstat(stream.fileno()).st_size
                refuse_unfolding(sum(header.num_bytes for header in headers.values()), size)
                yield archive, headers
    except MamlError:
        raise
    except FileNotFoundError:
        raise no_pack(where, "a pack (.npz file)", "no such file", "Run: mamlcli data ls") from None
    except BoundError as error:
        raise no_pack(where, "a pack (.npz file)", first_line(error), "Run: mamlcli data ls") from error
    except Exception as error:  # what NumPy and zipfile raise for a damaged file depends on where the damage is
        raise _unreadable(where, error) from error


_MAKE_ONE = "Make a pack: mamlcli data import --help"


def no_pack(where: str, expected: str, got: str, next_step: str = _MAKE_ONE) -> DataError:
    """Return the error for a file that is not what it should be."""
    return DataError(where, expected=expected, got=got, next_step=next_step)


def _unreadable(where: str, error: BaseException) -> DataError:
    text = first_line(error)
    # NumPy tells how to unpickle such a file, which nobody should do.
    got = "no archive of plain arrays" if "pickle" in text else f"{type(error).__name__}: {text}"
    return DataError(
        where,
        expected="a readable pack",
        got=got,
        why="The file is damaged, holds Python objects, or is not an .npz archive",
        next_step="Make the pack again: mamlcli data import --help",
    )
