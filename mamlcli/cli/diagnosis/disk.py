"""These checks look at the disk: at the folders that mamlcli writes to, and at what its caches hold."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK, Finding
from mamlcli.common.files import cache_dir, data_dir

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
    if data_dir() != cache_dir():
        yield folder_finding(
            "data",
            data_dir(),
            "data fetch and data import cannot write there",
            "Set MAMLCLI_DATA to a folder of yours",
            is_needed=False,
        )
    yield folder_finding(
        "temporary",
        Path(tempfile.gettempdir()),
        "torch.compile and data fetch may fail",
        "Set TMPDIR to a folder of yours",
        is_needed=False,
    )


def folder_finding(name: str, path: Path, effect: str, remedy: str, *, is_needed: bool) -> Finding:
    """Look at a folder, or at the one in which it would be made."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    words, details = f"{path}, {size(free)} free", {"path": str(path), "free_bytes": free}
    bad = BROKEN if is_needed else LACKING
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding("disk", name, bad, f"{path}, which cannot be written", effect, remedy, details)
    if free < _LITTLE_DISK:
        status = bad if free < _FULL_DISK else LACKING
        return Finding("disk", name, status, words, "the disk is nearly full", f"Make room; or {remedy}", details)
    return Finding("disk", name, OK, words, details=details)


def cache_findings() -> Iterator[Finding]:
    """Tell how much the caches hold."""
    compiled = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if compiled is None:
        compiled = str(Path(tempfile.gettempdir()) / f"torchinductor_{re.sub(r'[^a-zA-Z0-9]', '_', getpass.getuser())}")
    for name, folder in (("packs and choices", cache_dir()), ("compiled code", Path(compiled))):
        held = folder_bytes(folder)
        words = f"{size(held)} in {folder}" if folder.is_dir() else f"none in {folder}"
        yield Finding("disk", name, OK, words, details={"path": str(folder), "bytes": held})


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
