"""What this installation has and lacks: packages, device, data, disk; what would not work, and what mends it.

Imports the rest of the program only as it goes, so that a package that is missing or damaged is a finding.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK, Finding
from mamlcli.cli.diagnosis.packages import extras_findings, package_findings, python_finding
from mamlcli.common.errors import DataError
from mamlcli.common.files import cache_dir, data_dir
from mamlcli.common.names import IMAGE_SOURCES
from mamlcli.common.words import first_line

_MB, _GB = 2**20, 2**30


_LITTLE_DISK, _FULL_DISK = _GB, 50 * _MB


def diagnose() -> list[Finding]:
    """Look at everything and return what was found; a check that itself fails is a finding, too."""
    findings: list[Finding] = []
    checks: dict[str, tuple[str, Callable[[], Iterator[Finding]]]] = {
        "python": ("packages", python_finding),
        "requirements": ("packages", package_findings),
        "extras": ("extras", extras_findings),
        "processor": ("device", _processor),
        "GPU": ("device", _gpus),
        "compiler": ("device", _compiler),
        "packs": ("data", _data),
        "glyphs": ("data", _glyphs),
        "folders": ("disk", _folders),
        "caches": ("disk", _caches),
        "recipes": ("program", _recipes),
        "a meta-iteration": ("program", _meta_iteration),
    }
    for name, (group, check) in checks.items():
        try:
            findings += check()
        except Exception as error:
            words = f"{type(error).__name__}: {first_line(error)}"
            remedy = "Mend what is broken above, if anything is; mamlcli train linear-regression says more"
            if isinstance(error, ModuleNotFoundError) and error.name:
                remedy = f"pip install {error.name.partition('.')[0]}"
            findings.append(Finding(group, name, BROKEN, words, "bare commands fail", remedy))
    return findings


# Device --------------------------------------------------------------------------------------------------------


def _processor() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total, free = _memory()
    threads, asked = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    words = f"{cores} core{'s' * (cores != 1)}, {threads} thread{'s' * (threads != 1)}"
    words += f" (OMP_NUM_THREADS={asked})" if asked else ""
    words += f", {size(total)} of memory" if total else ""
    words += f", {size(free)} of it free" if free else ""
    details = {"cores": cores, "threads": threads, "memory_bytes": total, "free_memory_bytes": free}
    yield Finding("device", "cpu", OK, words, details=details)


def _memory() -> tuple[int | None, int | None]:
    """Return the memory of the machine and what of it is free, in bytes; None where the OS does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        table = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
        return table.get("MemTotal"), table.get("MemAvailable")
    except (OSError, ValueError, IndexError):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
        except (AttributeError, ValueError, OSError):
            return None, None


def _gpus() -> Iterator[Finding]:
    import torch

    with warnings.catch_warnings(record=True) as said:  # a driver that is too old is told by a warning
        warnings.simplefilter("always")
        is_there = torch.cuda.is_available()
    for index in range(torch.cuda.device_count() if is_there else 0):
        free, total = torch.cuda.mem_get_info(index)
        words = f"{torch.cuda.get_device_name(index)}, {size(total)} of memory, {size(free)} of it free"
        yield Finding("device", f"cuda:{index}", OK, words, details={"memory_bytes": total, "free_memory_bytes": free})
    if is_there:
        return
    has_driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    build = f"torch for CUDA {torch.version.cuda}" if torch.version.cuda else "torch without CUDA"
    if not has_driver:
        yield Finding("device", "cuda", OK, f"no GPU; {build}: everything runs on the CPU")
        return
    why = f" ({first_line(Warning(said[0].message))})" if said else ""
    yield Finding(
        "device",
        "cuda",
        LACKING,
        f"an NVIDIA driver, and {build} finds no GPU{why}",
        "everything runs on the CPU",
        "Install the torch that fits the driver: https://pytorch.org/get-started/locally",
    )


def _compiler() -> Iterator[Finding]:
    from mamlcli.engine.explicit.compilation import has_compiler

    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    missing = [] if has_compiler() else ["C++ compiler"]
    missing += [] if headers.is_file() else ["Python headers"]
    packages = {"C++ compiler": "g++", "Python headers": "python3-dev"}
    if missing:
        yield Finding(
            "device",
            "torch.compile",
            LACKING,
            f"no {' and no '.join(missing)}",
            "execution.compile runs uncompiled, to the same results",
            f"apt install {' '.join(packages[name] for name in missing)}, or what your system calls it",
        )
        return
    names = (os.environ.get("CXX"), "g++", "clang++")
    path = next(found for name in names if name and (found := shutil.which(name)))
    yield Finding("device", "torch.compile", OK, f"compiler {path}")


# Data ----------------------------------------------------------------------------------------------------------


def _data() -> Iterator[Finding]:
    from mamlcli.tasks.images.packs import find_pack, read_header
    from mamlcli.tasks.images.sources import SOURCES

    named, folder = os.environ.get("MAMLCLI_DATA"), data_dir()
    words = f"{folder}, {'named by MAMLCLI_DATA' if named else 'as MAMLCLI_DATA is not set'}"
    if named and not folder.is_dir():
        yield Finding(
            "data",
            "folder",
            LACKING,
            f"{folder}, which is not there",
            "packs in it are not found",
            f"mkdir -p {folder}, or set MAMLCLI_DATA to where they are",
        )
    else:
        yield Finding("data", "folder", OK, words)
    for name in IMAGE_SOURCES:
        path = find_pack(name)
        if path is None:
            if name != "glyphs":  # drawn, see below
                yield Finding("data", name, LACKING, "not here", f"recipes for {name} do not run", SOURCES[name].get)
            continue
        try:
            header = read_header(path)
        except DataError as error:
            yield Finding(
                "data",
                name,
                BROKEN if name == "glyphs" else LACKING,
                f"{path}: damaged",
                f"recipes for {name} do not run ({first_line(error)})",
                SOURCES[name].get,
            )
            continue
        shape = f"{header.height}x{header.width}x{header.channels}"
        counts = {"num_images": header.num_images, "num_classes": header.num_classes}
        yield Finding(
            "data",
            name,
            OK,
            f"{header.num_images} images of {header.num_classes} classes, {shape}, in {path}",
            details={"path": str(path), "bytes": path.stat().st_size, **counts},
        )


def _glyphs() -> Iterator[Finding]:
    from mamlcli.tasks.images.fonts import load_faces
    from mamlcli.tasks.images.glyphs import GLYPHS_VERSION

    drawn = cache_dir() / f"glyphs-v{GLYPHS_VERSION}-seed0.npz"
    try:
        load_faces()
    except DataError as error:
        status = LACKING if drawn.is_file() else BROKEN
        yield Finding(
            "data",
            "glyphs",
            status,
            first_line(error),
            "glyphs cannot be drawn",
            "pip install --force-reinstall matplotlib",
        )
        return
    words = f"drawn, in {drawn}" if drawn.is_file() else "not drawn yet; the first run that needs them does"
    yield Finding("data", "glyphs", OK, words)


# Disk ----------------------------------------------------------------------------------------------------------


def _folders() -> Iterator[Finding]:

    yield _folder(
        "runs",
        Path("runs").absolute(),
        "train and the studies cannot write there",
        "Change to a folder of yours, or use --run-dir and --dir",
        is_needed=True,
    )
    yield _folder(
        "cache",
        cache_dir(),
        "glyphs are drawn anew by every command",
        "Set XDG_CACHE_HOME to a folder of yours",
        is_needed=False,
    )
    if data_dir() != cache_dir():
        yield _folder(
            "data",
            data_dir(),
            "data fetch and data import cannot write there",
            "Set MAMLCLI_DATA to a folder of yours",
            is_needed=False,
        )
    yield _folder(
        "temporary",
        Path(tempfile.gettempdir()),
        "torch.compile and data fetch may fail",
        "Set TMPDIR to a folder of yours",
        is_needed=False,
    )


def _folder(name: str, path: Path, effect: str, remedy: str, *, is_needed: bool) -> Finding:
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


def _caches() -> Iterator[Finding]:

    compiled = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if compiled is None:
        compiled = str(Path(tempfile.gettempdir()) / f"torchinductor_{re.sub(r'[^a-zA-Z0-9]', '_', getpass.getuser())}")
    for name, folder in (("packs and choices", cache_dir()), ("compiled code", Path(compiled))):
        held = folder_bytes(folder)
        words = f"{size(held)} in {folder}" if folder.is_dir() else f"none in {folder}"
        yield Finding("disk", name, OK, words, details={"path": str(folder), "bytes": held})


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder; what cannot be read counts nothing."""
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


# The program ---------------------------------------------------------------------------------------------------


def _recipes() -> Iterator[Finding]:
    from mamlcli.recipe.files import load_recipe, shipped_dir, shipped_recipes

    names = list(shipped_recipes())
    for name in names:
        load_recipe(name)
    if not names:
        yield Finding(
            "program",
            "recipes",
            BROKEN,
            f"none in {shipped_dir()}",
            "no recipe is found by name",
            "pip install --force-reinstall mamlcli",
        )
        return
    yield Finding("program", "recipes", OK, f"{len(names)}, in {shipped_dir()}")


def _meta_iteration() -> Iterator[Finding]:
    from mamlcli.recipe.files import load_recipe
    from mamlcli.training.dry_run import dry_run

    _, recipe = load_recipe("linear-regression", ("outer.tasks=2", "execution.compile=false"))
    cost = dry_run(recipe)
    words = f"works on {cost.device} ({1000 * cost.seconds_per_iteration:.0f} ms, linear-regression, 2 tasks)"
    yield Finding("program", "a meta-iteration", OK, words)
