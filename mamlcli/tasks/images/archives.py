"""Unpacks archives of images (zip, tar, tar.gz and the like), within bounds, into a folder that is removed later."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from mamlcli.common.bounded import open_regular
from mamlcli.common.disk import write_error
from mamlcli.common.errors import DataError
from mamlcli.common.leftovers import scratch_folder
from mamlcli.common.words import first_line, shown

if TYPE_CHECKING:
    from typing_extensions import Self

_ZIP = (".zip",)
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = (*_ZIP, *_TAR)

# Images and pickles hardly shrink when packed, drawings on white twenty-fold; an archive that unfolds to more than
# this is made to fill a disk.
_FREE_BYTES = 1_000_000_000
_MAX_RATIO = 100
_MAX_MEMBERS = 2_000_000
_CHUNK = 1 << 20

# A tar file may say of a name or of attributes that they have gigabytes; they are read whole, before any member.
_NAME_BYTES = 1_000_000
_NAME_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Member(tarfile.TarInfo):
    """A member of a tar file whose name has no more bytes than a name may."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if member.type in _NAME_TYPES and member.size > _NAME_BYTES:
            raise tarfile.ReadError(f"a name of {member.size:,} bytes")
        return member


def archive_stem(path: Path) -> str | None:
    """Return the name of an archive without its suffixes, or None for a file that is no archive by its name."""
    name = path.name
    suffix = max((suffix for suffix in ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), key=len, default=None)
    return name[: -len(suffix)] if suffix and len(name) > len(suffix) else None


def is_archive(path: Path) -> bool:
    """Return whether a path is a file that is an archive by its name."""
    return archive_stem(path) is not None and path.is_file()


@contextlib.contextmanager
def unpacking(path: Path, parent: Path) -> Iterator[Path | None]:
    """Make a folder below `parent` for unpacked files, if `path` is an archive or holds some; remove it at the end.

    A DataError that is raised meanwhile names the archive in the place of the folder.

    Raises:
        DataError: `parent` cannot be written.
    """
    if path.is_dir() and not _holds_archives(path):
        yield None
        return
    try:
        stack = contextlib.ExitStack()
        folder = stack.enter_context(scratch_folder(parent, ".import-"))
    except OSError as error:
        raise write_error(
            error,
            str(parent),
            expected="a folder that can be written",
            next_step="Set MAMLCLI_DATA to a folder of yours",
            kind=DataError,
        ) from error
    with stack:
        try:
            yield folder
        except DataError as error:
            raise _as_typed(error, folder, path) from error


def _holds_archives(folder: Path) -> bool:
    """Return whether there is an archive in a folder, or in one of its folders."""
    for place, folders, files in os.walk(folder):
        if any(archive_stem(Path(name)) for name in files):
            return True
        if Path(place) != folder:
            folders.clear()
    return False


def as_typed(text: str, scratch: Path | None, path: Path) -> str:
    """Return a text in which what the user typed stands in the place of a folder of unpacked files."""
    if scratch is None:
        return text
    stem = archive_stem(path) if path.is_file() else None
    pattern = re.escape(str(scratch)) + r"[/\\]\d+" + (r"([/\\]" + re.escape(stem) + ")?" if stem else "")
    return re.sub(pattern, lambda _: str(path), text)


def _as_typed(error: DataError, scratch: Path, path: Path) -> DataError:
    def typed(text: str | None) -> str | None:
        return None if text is None else as_typed(text, scratch, path)

    return DataError(
        as_typed(error.where, scratch, path),
        expected=as_typed(error.expected, scratch, path),
        got=typed(error.got),
        why=typed(error.why),
        next_step=typed(error.next_step),
    )


def unpack(archive: Path, target: Path) -> list[tuple[str, str]]:
    """Unpack the regular files of an archive below a folder, and nothing outside of it.

    Args:
        archive: the file; its content decides the format, not its name.
        target: a folder of the caller's own; it is made.

    Returns:
        (member, reason) of what was not unpacked: links, devices, and names that lead out of the folder.

    Raises:
        DataError: the file is no archive, is damaged, has a password, or holds more than it may: 100 times its own
            size and a gigabyte, two million files, or more than the disk has room for.
    """
    bound = _Bound(archive, target)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with open_regular(archive) as stream:
            if zipfile.is_zipfile(stream):
                with zipfile.ZipFile(stream) as packed:
                    _unpack_zip(packed, target, bound)
            else:
                stream.seek(0)
                with tarfile.open(fileobj=stream, mode="r:*", tarinfo=_Member) as packed_tar:
                    _unpack_tar(packed_tar, target, bound)
    except DataError:
        raise
    except Exception as error:  # the errors of zipfile, tarfile, zlib, bz2 and lzma have no common name
        raise DataError(
            shown(archive),
            expected="a whole archive (.zip, .tar or .tar.gz)",
            got=f"{type(error).__name__}: {first_line(error)}",
            next_step="Unpack it with another program, and import the folder",
        ) from error
    return bound.skipped


class _Bound:
    """Counts what is unpacked, and refuses what is too much."""

    def __init__(self, archive: Path, target: Path) -> None:
        self.skipped: list[tuple[str, str]] = []
        self.where = shown(archive)
        self.num_members = 0
        self.num_bytes = 0
        free = shutil.disk_usage(target.parent if target.parent.is_dir() else archive.parent).free
        size = archive.stat().st_size if archive.is_file() else 0
        self.max_bytes = min(_FREE_BYTES + _MAX_RATIO * size, free)
        self.is_by_disk = free < _FREE_BYTES + _MAX_RATIO * size

    def path(self, name: str, target: Path) -> Path | None:
        """Return where a member goes; None for one that leads out of the folder or is of no use."""
        self.num_members += 1
        if self.num_members > _MAX_MEMBERS:
            raise self._too_much(f"more than {_MAX_MEMBERS:,} files")
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or any(re.fullmatch(r"\.\.|/|[A-Za-z]:.*|.*\0.*", part, re.DOTALL) for part in parts):
            self.skipped.append((f"{self.where}: {shown(name)}", "its name leads out of the folder"))
            return None
        if any(part.startswith((".", "__MACOSX")) for part in parts if part != "."):
            return None
        return target.joinpath(*parts)

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append((f"{self.where}: {shown(name)}", reason))

    def check_size(self, num_bytes: int) -> None:
        """Refuse a member that has more bytes than may still be unpacked."""
        if num_bytes > self.max_bytes - self.num_bytes:
            raise self._too_much(f"more than {self.max_bytes:,} bytes")

    def write(self, source: IO[bytes], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            while chunk := source.read(_CHUNK):
                self.num_bytes += len(chunk)
                if self.num_bytes > self.max_bytes:
                    by_size = f"more than {self.max_bytes:,} bytes"
                    raise self._too_much("more than the disk has room for" if self.is_by_disk else by_size)
                out.write(chunk)

    def _too_much(self, got: str) -> DataError:
        return DataError(
            self.where,
            expected="an archive of images that unfolds to a usual size",
            got=got,
            next_step="Unpack it with another program, and import the folder",
        )


def _unpack_zip(packed: zipfile.ZipFile, target: Path, bound: _Bound) -> None:
    for member in packed.infolist():
        path = bound.path(member.filename, target)
        if path is None or member.is_dir():
            continue
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            bound.skip(member.filename, "a link")
            continue
        with packed.open(member) as source:
            bound.write(source, path)


def _unpack_tar(packed: tarfile.TarFile, target: Path, bound: _Bound) -> None:
    for member in packed:
        bound.check_size(member.size)  # also of one that is passed over, which is unfolded on the way
        path = bound.path(member.name, target) if not member.isdir() else None
        if path is None:
            continue
        source = packed.extractfile(member) if member.isreg() else None
        if source is None:
            bound.skip(member.name, "a link or no regular file")
            continue
        with source:
            bound.write(source, path)
