"""What this installation has and lacks: packages, device, data, disk; what would not work, and what mends it.

Imports the rest of the program only as it goes, so that a package that is missing or damaged is a finding.
"""

from __future__ import annotations

import configparser
import getpass
import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.errors import first_line

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# The folder of the package; setup.cfg lies beside it in a checkout.
_PACKAGE = Path(__file__).parent

# How a finding stands. "lacking": some commands or options do without, or do not work; "broken": bare commands fail.
OK, LACKING, BROKEN = "ok", "lacking", "broken"

EXTRAS = {
    "bench": "bench leaves these peers out",
    "tensorboard": "logging=tensorboard does not work",
}
# Where the name to import is not that of the package.
_MODULES = {"pyyaml": "yaml", "pillow": "PIL"}
_SMALLEST_PYTHON = (3, 10)
_MB, _GB = 2**20, 2**30
_LITTLE_DISK, _FULL_DISK = _GB, 50 * _MB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        group: what it belongs to, such as "data".
        name: what was looked at.
        status: `OK`, `LACKING` or `BROKEN`.
        found: what is there, in words.
        effect: what does not work without; None where all does.
        remedy: the command, or the step, that mends it.
        details: numbers behind the words; sizes in bytes.
    """

    group: str
    name: str
    status: str
    found: str
    effect: str | None = None
    remedy: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


def diagnose() -> list[Finding]:
    """Look at everything and return what was found; a check that itself fails is a finding, too."""
    findings: list[Finding] = []
    checks: dict[str, tuple[str, Callable[[], Iterator[Finding]]]] = {
        "python": ("packages", _python), "requirements": ("packages", _packages), "extras": ("extras", _extras),
        "processor": ("device", _processor), "GPU": ("device", _gpus), "compiler": ("device", _compiler),
        "packs": ("data", _data), "glyphs": ("data", _glyphs), "folders": ("disk", _folders),
        "caches": ("disk", _caches), "recipes": ("program", _recipes), "a meta-iteration": ("program", _meta_iteration),
    }  # fmt: skip
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


def diagnosis_to_json(findings: list[Finding]) -> dict[str, object]:
    """Return findings in machine-readable form."""
    return {"ok": not broken(findings), "findings": [asdict(finding) for finding in findings]}


def broken(findings: list[Finding]) -> list[Finding]:
    """Return the findings that keep bare commands from working."""
    return [finding for finding in findings if finding.status == BROKEN]


# Packages ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Needed:
    """A package that mamlcli, or one of its extras, needs.

    Attributes:
        name: in lower case.
        smallest: the oldest version that will do.
        extra: which extra needs it; None where mamlcli itself does.
    """

    name: str
    smallest: str
    extra: str | None


def requirements() -> list[Needed]:
    """Return the packages that mamlcli needs, from the setup.cfg of a checkout or from the installed metadata."""
    from packaging.requirements import Requirement  # here, so that doctor can tell that it is missing

    config = configparser.ConfigParser()
    config.read(_PACKAGE.parent / "setup.cfg")
    if config.get("metadata", "name", fallback="") == "mamlcli":  # a checkout; what was installed may be older
        lists: dict[str | None, str] = {None: config["options"]["install_requires"]}
        lists |= {extra: config["options.extras_require"][extra] for extra in EXTRAS}
        return [
            _needed(Requirement(line), extra) for extra, lines in lists.items() for line in lines.split("\n") if line
        ]
    listed = [Requirement(line) for line in metadata.requires("mamlcli") or []]
    return [_needed(item, extra) for extra in (None, *EXTRAS) for item in listed if _is_brought_by(item, extra)]


def _is_brought_by(requirement: Requirement, extra: str | None) -> bool:
    """Return whether an extra, or for None mamlcli by itself, brings a package to this machine."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        return extra is None
    return extra is not None and requirement.marker.evaluate({"extra": extra})


def _needed(requirement: Requirement, extra: str | None) -> Needed:
    smallest = next(bound.version for bound in requirement.specifier if bound.operator in (">=", "=="))
    return Needed(requirement.name.lower(), smallest, extra)


def is_at_least(version: str, smallest: str) -> bool:
    """Return whether a version such as 2.6.0+cpu is not older than another; a pre-release counts as its release."""
    from packaging.version import Version

    return Version(Version(version).base_version) >= Version(smallest)


def _python() -> Iterator[Finding]:
    is_new = sys.version_info >= _SMALLEST_PYTHON
    need = ".".join(map(str, _SMALLEST_PYTHON))
    yield Finding("packages", "mamlcli", OK, f"{_version('mamlcli')}, in {_PACKAGE}")
    yield Finding(
        "packages", "python", OK if is_new else BROKEN, f"{platform.python_version()}, {sys.executable}",
        None if is_new else f"mamlcli needs {need} or newer", None if is_new else f"Install Python {need} or newer",
        {"version": platform.python_version()},
    )  # fmt: skip


def _packages() -> Iterator[Finding]:
    for needed in requirements():
        if needed.extra is None:
            yield _package(needed.name, needed.smallest)


def _package(name: str, smallest: str) -> Finding:
    effect, remedy = "bare commands fail", f"pip install '{name}>={smallest}'"
    try:
        version = metadata.version(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a package's own; they are not about the installation
            importlib.import_module(_MODULES.get(name, name))
    except metadata.PackageNotFoundError:
        return Finding("packages", name, BROKEN, "not installed", effect, remedy)
    except Exception as error:
        words = f"{version}, which cannot be imported ({type(error).__name__}: {first_line(error)})"
        again = f"pip install --force-reinstall '{name}>={smallest}'"
        return Finding("packages", name, BROKEN, words, effect, again, {"version": version})
    if not is_at_least(version, smallest):
        return Finding("packages", name, BROKEN, f"{version}, older than {smallest}", "commands may fail", remedy,
                       {"version": version})  # fmt: skip
    return Finding("packages", name, OK, version, details={"version": version})


def _extras() -> Iterator[Finding]:
    for extra, effect in EXTRAS.items():
        versions: dict[str, str | None] = {}
        for name in [needed.name for needed in requirements() if needed.extra == extra]:
            is_there = importlib.util.find_spec(_MODULES.get(name, name)) is not None
            versions[name] = _version(name) if is_there else None
        missing = [name for name, version in versions.items() if version is None]
        words = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
        yield Finding(
            "extras", extra, LACKING if missing else OK, words, effect if missing else None,
            f"pip install 'mamlcli[{extra}]'" if missing else None, versions,
        )  # fmt: skip


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"


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
    yield Finding("device", "cuda", LACKING, f"an NVIDIA driver, and {build} finds no GPU{why}",
                  "everything runs on the CPU",
                  "Install the torch that fits the driver: https://pytorch.org/get-started/locally")  # fmt: skip


def _compiler() -> Iterator[Finding]:
    from mamlcli.compilation import has_compiler

    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    missing = [] if has_compiler() else ["C++ compiler"]
    missing += [] if headers.is_file() else ["Python headers"]
    packages = {"C++ compiler": "g++", "Python headers": "python3-dev"}
    if missing:
        yield Finding(
            "device", "torch.compile", LACKING, f"no {' and no '.join(missing)}",
            "execution.compile runs uncompiled, to the same results",
            f"apt install {' '.join(packages[name] for name in missing)}, or what your system calls it",
        )  # fmt: skip
        return
    names = (os.environ.get("CXX"), "g++", "clang++")
    path = next(found for name in names if name and (found := shutil.which(name)))
    yield Finding("device", "torch.compile", OK, f"compiler {path}")


# Data ----------------------------------------------------------------------------------------------------------


def _data() -> Iterator[Finding]:
    from mamlcli.errors import DataError
    from mamlcli.names import IMAGE_SOURCES
    from mamlcli.tasks.packs import data_dir, find_pack, read_header
    from mamlcli.tasks.sources import SOURCES

    named, folder = os.environ.get("MAMLCLI_DATA"), data_dir()
    words = f"{folder}, {'named by MAMLCLI_DATA' if named else 'as MAMLCLI_DATA is not set'}"
    if named and not folder.is_dir():
        yield Finding("data", "folder", LACKING, f"{folder}, which is not there", "packs in it are not found",
                      f"mkdir -p {folder}, or set MAMLCLI_DATA to where they are")  # fmt: skip
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
            yield Finding("data", name, BROKEN if name == "glyphs" else LACKING, f"{path}: damaged",
                          f"recipes for {name} do not run ({first_line(error)})", SOURCES[name].get)  # fmt: skip
            continue
        shape = f"{header.height}x{header.width}x{header.channels}"
        counts = {"num_images": header.num_images, "num_classes": header.num_classes}
        yield Finding(
            "data", name, OK, f"{header.num_images} images of {header.num_classes} classes, {shape}, in {path}",
            details={"path": str(path), "bytes": path.stat().st_size, **counts},
        )  # fmt: skip


def _glyphs() -> Iterator[Finding]:
    from mamlcli.errors import DataError
    from mamlcli.tasks.glyphs import GLYPHS_VERSION
    from mamlcli.tasks.letters import load_faces
    from mamlcli.tasks.packs import cache_dir

    drawn = cache_dir() / f"glyphs-v{GLYPHS_VERSION}-seed0.npz"
    try:
        load_faces()
    except DataError as error:
        status = LACKING if drawn.is_file() else BROKEN
        yield Finding("data", "glyphs", status, first_line(error), "glyphs cannot be drawn",
                      "pip install --force-reinstall matplotlib")  # fmt: skip
        return
    words = f"drawn, in {drawn}" if drawn.is_file() else "not drawn yet; the first run that needs them does"
    yield Finding("data", "glyphs", OK, words)


# Disk ----------------------------------------------------------------------------------------------------------


def _folders() -> Iterator[Finding]:
    from mamlcli.tasks.packs import cache_dir, data_dir

    yield _folder("runs", Path("runs").absolute(), "train and the studies cannot write there", "Change to a folder of "
                  "yours, or use --run-dir and --dir", is_needed=True)  # fmt: skip
    yield _folder("cache", cache_dir(), "glyphs are drawn anew by every command", "Set XDG_CACHE_HOME to a folder of "
                  "yours", is_needed=False)  # fmt: skip
    if data_dir() != cache_dir():
        yield _folder("data", data_dir(), "data fetch and data import cannot write there", "Set MAMLCLI_DATA to a "
                      "folder of yours", is_needed=False)  # fmt: skip
    yield _folder("temporary", Path(tempfile.gettempdir()), "torch.compile and data fetch may fail", "Set TMPDIR to "
                  "a folder of yours", is_needed=False)  # fmt: skip


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
    from mamlcli.tasks.packs import cache_dir

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
    from mamlcli.recipe_files import load_recipe, shipped_dir, shipped_recipes

    names = list(shipped_recipes())
    for name in names:
        load_recipe(name)
    if not names:
        yield Finding("program", "recipes", BROKEN, f"none in {shipped_dir()}", "no recipe is found by name",
                      "pip install --force-reinstall mamlcli")  # fmt: skip
        return
    yield Finding("program", "recipes", OK, f"{len(names)}, in {shipped_dir()}")


def _meta_iteration() -> Iterator[Finding]:
    from mamlcli.dry_run import dry_run
    from mamlcli.recipe_files import load_recipe

    _, recipe = load_recipe("linear-regression", ("outer.tasks=2", "execution.compile=false"))
    cost = dry_run(recipe)
    words = f"works on {cost.device} ({1000 * cost.seconds_per_iteration:.0f} ms, linear-regression, 2 tasks)"
    yield Finding("program", "a meta-iteration", OK, words)
