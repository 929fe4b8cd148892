"""Files are written whole or not at all, JSON without NaN; the folders of packs, cache and settings are named here."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import math
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mamlcli.common.disk import naming
from mamlcli.common.errors import DataError, MamlError
from mamlcli.common.leftovers import open_partial, remove_leftovers
from mamlcli.common.words import printable


class TextFileError(ValueError):
    """Raised for bytes that are no text that can be told; its text says what they look like."""


# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_of(data: bytes) -> str:
    """Return the text that bytes hold: UTF-8, or UTF-8, UTF-16 or UTF-32 with its mark at the start.

    Raises:
        TextFileError: they hold something else; the message says what it looks like.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise TextFileError(f"a damaged file in {encoding.removesuffix('-sig').upper()}") from error
        if any(byte < 0x20 and byte not in b"\t\n\r\f" for byte in data[:4096]):
            raise TextFileError("a binary file") from error
        line = data.count(b"\n", 0, error.start) + 1
        got = f"another encoding, such as Latin-1 or Windows-1252 (byte 0x{data[error.start]:02x} in line {line})"
        raise TextFileError(f"{got}; save it as UTF-8") from error


def atomic_write(path: Path, data: bytes, *, kept_as: Path | None = None) -> None:
    """Write a file so that it is whole and new or as it was before, even if the machine stops.

    Args:
        path: the file; a link that stands there is replaced, not followed.
        data: its content.
        kept_as: where the file that is there goes; between two renames there is only that one. None: nowhere.
    """
    with whole_file(path, kept_as=kept_as) as stream:
        stream.write(data)


@contextlib.contextmanager
def whole_file(path: Path, *, kept_as: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a stream whose content becomes a file once it is whole and on the disk; after an error nothing has changed.

    What killed writes of the same file have left beside it is taken away.

    Args:
        path, kept_as: as in `atomic_write`.
    """
    with naming(path):
        _check_replaceable(path)
        remove_leftovers(path.parent, path.name)
    with naming(path), open_partial(path) as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if os.name == "nt":  # pragma: no cover - Windows renames no open file
                stream.close()
            if kept_as is not None and path.exists():
                os.replace(path, kept_as)
            os.replace(stream.name, path)
        except BaseException:
            with contextlib.suppress(OSError):  # what is left in the buffer cannot be written either
                stream.close()
            with contextlib.suppress(OSError):
                os.unlink(stream.name)
            raise


def _check_replaceable(path: Path) -> None:
    """Raise OSError where a device or a pipe stands, such as /dev/null, that a file would replace."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EEXIST, "a device, a pipe or a socket, not a file", str(path))


def json_text(value: object, *, is_ascii: bool = False) -> str:
    """Return a value as indented JSON; NaN and infinities become null, which JSON can say.

    Args:
        value: primitives.
        is_ascii: whether all but ASCII is escaped, for an output that has no other characters.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=is_ascii, allow_nan=False) + "\n"
    # A file name of bytes that are no text has halves of surrogate pairs; their escape here is that of JSON.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: object) -> object:
    """Return a value with None in the place of every number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


_VARIABLE = re.compile(r"\$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[^}]*)\})")


def user_path(text: str, where: str) -> Path:
    """Return a path that a person wrote, with ~ and the environment variables in it expanded.

    A path that is there as it is written is taken as it is, also one with a $ in its name.

    Args:
        text: the path, such as ~/photos or $SCRATCH/photos or ${SCRATCH}/photos.
        where: the first word of messages.

    Raises:
        DataError: an empty path, or a variable that is not set; MamlError: a home that is not known.
    """
    if not text.strip():  # which the file system takes for the current folder
        raise DataError(where, expected="a path", got=repr(text), next_step="Write a dot for the current folder")
    if os.path.lexists(text):
        return Path(text)

    def value(match: re.Match[str]) -> str:
        name = match["name"] or match["braced"]
        if name not in os.environ:
            got = f"{text!r}, where {name} is not set"
            next_step = "Set it, as in export NAME=VALUE, or write the path out"
            raise DataError(where, expected="a path whose variables are set", got=got, next_step=next_step)
        return os.environ[name]

    return expanded(_VARIABLE.sub(value, text), where=where)


# Folders ----------------------------------------------------------------------------------------------------------

DATA_VARIABLE, CACHE_VARIABLE, CONFIG_VARIABLE = "MAMLCLI_DATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"


def data_dir() -> Path:
    """Return the folder of the packs: $MAMLCLI_DATA, else the user's cache.

    Raises:
        MamlError: MAMLCLI_DATA names several folders, or a home that is not known.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        return cache_dir()
    if os.pathsep in named and not os.path.isdir(os.path.expanduser(named)):
        first = named.split(os.pathsep)[0]
        raise MamlError(
            DATA_VARIABLE,
            expected="one folder",
            got=f"{named.count(os.pathsep) + 1}: {named!r}",
            next_step=f"Set it to the folder with the packs: export {DATA_VARIABLE}={shlex.quote(first or '.')}",
        )
    return expanded(named, where=DATA_VARIABLE)


def cache_dir() -> Path:
    """Return the user's cache folder for mamlcli: $XDG_CACHE_HOME/mamlcli, by default ~/.cache/mamlcli.

    A value that is no absolute path is ignored, as the XDG Base Directory Specification asks. For a user without a
    home it is a folder of that user among the temporary files.
    """
    base = os.path.expanduser(os.environ.get(CACHE_VARIABLE, ""))
    if os.path.isabs(base):
        return Path(base) / "mamlcli"
    home = home_dir()
    if home is not None:
        return home / ".cache" / "mamlcli"
    return (temporary_dir() or Path(os.sep, "tmp")) / f"mamlcli-{getattr(os, 'getuid', int)()}"


def config_dir() -> Path | None:
    """Return the user's folder of settings for mamlcli: $XDG_CONFIG_HOME/mamlcli, by default ~/.config/mamlcli.

    It is None for a user without a home.
    """
    base = os.path.expanduser(os.environ.get(CONFIG_VARIABLE, ""))
    if os.path.isabs(base):
        return Path(base) / "mamlcli"
    home = home_dir()
    return home / ".config" / "mamlcli" if home is not None else None


def home_dir() -> Path | None:
    """Return the user's home; None where neither HOME nor the list of users names one, as in some containers."""
    if os.environ.get("HOME") == "":
        return None
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if home.is_absolute() else None


def temporary_dir() -> Path | None:
    """Return the folder of temporary files ($TMPDIR, else the system's); None where none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return None


def expanded(path: Path | str, *, where: str | None = None) -> Path:
    """Return a path with `~` and `~name` at its beginning replaced by the home of that user.

    Args:
        path: as the user gave it.
        where: what named it, for the message; by default the path itself.

    Raises:
        MamlError: that home is not known, and nothing has this name as it is.
    """
    found = os.path.expanduser(path)
    if found.startswith("~") and not os.path.lexists(found):
        user = Path(found).parts[0][1:]
        raise MamlError(
            where or printable(path),
            expected="a path that can be found",
            got=repr(str(path)) if where else f"the home of {user!r}" if user else "the home of a user without one",
            why=f"This machine knows no user {user!r}" if user else "HOME is not set, and the list of users has none",
            next_step="Write the path without ~" if user else "Write the path without ~, or set HOME",
        )
    return Path(found)


def can_be_made(folder: Path) -> bool:
    """Return whether a folder can be written to; of one that is not there, whether it could be made."""
    for there in (folder, *folder.parents):
        if os.path.lexists(there):
            return os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)
    return False
