"""Files are written whole or not at all, JSON without NaN; the folders of packs and of the cache are named here."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that it is whole and new or as it was before, even if the machine stops."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files for the owner alone; a result should be as readable as any other file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def json_text(value: object) -> str:
    """Return a value as indented JSON; NaN and infinities become null, which JSON can say."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    """Return a value with None in the place of every number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def data_dir() -> Path:
    """Return the folder of the packs: $MAMLCLI_DATA, else the user's cache."""
    override = os.environ.get("MAMLCLI_DATA")
    if override:
        return Path(override).expanduser()
    return cache_dir()


def cache_dir() -> Path:
    """Return the user's cache folder for mamlcli: $XDG_CACHE_HOME/mamlcli, by default ~/.cache/mamlcli."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "mamlcli"
