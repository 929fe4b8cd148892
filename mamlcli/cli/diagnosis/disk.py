"""These checks look at the disk: at the folders that mamlcli writes to, and at what its caches hold."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK, Finding
from mamlcli.common.errors import MamlError
from mamlcli.common.files import cache_dir, can_be_made, data_dir, temporary_dir

_MB, _GB = 2**20, 2**30


_LITTLE_DISK, _FULL_DISK = _GB, 50 * _MB


def folder_findings() -> Iterator[Finding]:
    """Look at the folders that mamlcli writes to."""
    yield folder_finding(
        "runs",
        Path("runs").absolute(),
        "train and the studies cannot write there",
        "Change to a folder of yours, or use --run-dir and --dir",
        is_needed=True,
    )
    yield folder_finding(
        "cache",
        cache_dir(),
        "glyphs are drawn anew by every command",
        "Set XDG_CACHE_HOME to a folder of yours",
        is_needed=False,
    )
    with contextlib.suppress(MamlError):  # MAMLCLI_DATA names no folder: `places` says so
        if data_dir() != cache_dir():
            yield folder_finding(
                "data",
                data_dir().absolute(),
                "data fetch and data import cannot write there",
                "Set MAMLCLI_DATA to a folder of yours",
                is_needed=False,
            )
    if (temporary := temporary_dir()) is not None:
        yield folder_finding(
            "temporary",
            temporary.absolute(),
            "torch.compile and --workers may fail",
            "Set TMPDIR to a folder of yours",
            is_needed=False,
        )


def folder_finding(name: str, path: Path, effect: str, remedy: str, *, is_needed: bool) -> Finding:
    """Look at a folder, or at the one in which it would be made."""
    there = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    free = shutil.disk_usage(there).free
    words, details = f"{path}, {size(free)} free", {"path": str(path), "free_bytes": free}
    bad = BROKEN if is_needed else LACKING
    if not can_be_made(path):
        return Finding("disk", name, bad, f"{path}, which cannot be written", effect, remedy, details)
    if free < _LITTLE_DISK:
        status = bad if free < _FULL_DISK else LACKING
        return Finding("disk", name, status, words, "the disk is nearly full", f"Make room; or {remedy}", details)
    return Finding("disk", name, OK, words, details=details)


def cache_findings() -> Iterator[Finding]:
    """Tell how much the caches hold."""
    for name, folder in (("packs and choices", cache_dir()), ("compiled code", compiled_dir())):
        if folder is None:
            continue
        held = folder_bytes(folder)
        words = f"{size(held)} in {folder}" if os.path.isdir(folder) else f"none in {folder}"
        yield Finding("disk", name, OK, words, details={"path": str(folder), "bytes": held})


def compiled_dir() -> Path | None:
    """Return where torch keeps compiled code; None where it has no place for it."""
    named, temporary = os.environ.get("TORCHINDUCTOR_CACHE_DIR"), temporary_dir()
    if named or temporary is None:
        return Path(named) if named else None
    try:
        user = getpass.getuser()
    except (KeyError, ModuleNotFoundError, OSError):  # nobody that this machine knows; torch does the same
        user = f"uid_{os.getuid()}" if hasattr(os, "getuid") else "unknown_user"
    return temporary / f"torchinductor_{re.sub(r'[^a-zA-Z0-9_]', '_', user)}"


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder; files that cannot be read count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def size(num_bytes: int | None) -> str:
    """Return a size in the unit that fits: `512 kB`, `12 MB`, `3.5 GB`."""
    if num_bytes is None:
        return "an unknown amount"
    for unit, name in ((_GB, "GB"), (_MB, "MB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.1f} {name}" if num_bytes < 10 * unit else f"{num_bytes / unit:.0f} {name}"
    return f"{num_bytes / 1024:.0f} kB"
