"""Each check here looks at one part of this installation: device, data, program; `diagnose` runs all checks.

Imports the rest of the program only as it goes, so that a package that is missing or damaged is a finding.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from mamlcli.cli.diagnosis.disk import cache_findings, folder_findings, size
from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK, Finding
from mamlcli.cli.diagnosis.packages import extras_findings, package_findings, python_finding
from mamlcli.cli.diagnosis.places import place_findings
from mamlcli.cli.diagnosis.plugins import plugin_findings
from mamlcli.common.errors import DataError, MamlError
from mamlcli.common.figures import prepare
from mamlcli.common.files import cache_dir, data_dir
from mamlcli.common.names import IMAGE_SOURCES
from mamlcli.common.words import first_line
from mamlcli.runs.models import shipped_models


def diagnose() -> list[Finding]:
    """Look at everything and return what was found; a check that itself fails is a finding, too."""
    with contextlib.suppress(Exception):  # a package that is damaged is found below
        prepare()  # before matplotlib is imported by itself, and sets the variable that names its folder
    findings: list[Finding] = []
    checks: dict[str, tuple[str, Callable[[], Iterator[Finding]]]] = {
        "python": ("packages", python_finding),
        "requirements": ("packages", package_findings),
        "extras": ("extras", extras_findings),
        "plug-ins": ("plug-ins", plugin_findings),
        "processor": ("device", processor_findings),
        "GPU": ("device", gpu_findings),
        "compiler": ("device", compiler_findings),
        "packs": ("data", data_findings),
        "glyphs": ("data", glyph_findings),
        "places": ("disk", place_findings),
        "folders": ("disk", folder_findings),
        "caches": ("disk", cache_findings),
        "recipes": ("program", recipe_findings),
        "models": ("program", model_findings),
        "a meta-iteration": ("program", meta_iteration_findings),
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


def processor_findings() -> Iterator[Finding]:
    """Look at the cores, the threads that torch uses, and the memory."""
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
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        table = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
        return table.get("MemTotal"), table.get("MemAvailable")
    except (OSError, ValueError, IndexError):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
        except (AttributeError, ValueError, OSError):
            return None, None


def gpu_findings() -> Iterator[Finding]:
    """Look at each GPU; where there is none, tell whether one could be used."""
    import torch

    with warnings.catch_warnings(record=True) as said:  # a driver that is too old is told by a warning
        warnings.simplefilter("always")
        is_there = torch.cuda.is_available()
    for index in range(torch.cuda.device_count() if is_there else 0):
        free, total = torch.cuda.mem_get_info(index)
        words = f"{torch.cuda.get_device_name(index)}, {size(total)} of memory, {size(free)} of it free"
        yield Finding("device", f"cuda:{index}", OK, words, details={"memory_bytes": total, "free_memory_bytes": free})
    if torch.backends.mps.is_available():
        fallback = "set" if os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK") == "1" else "not set"
        words = "a GPU of Apple's, used with --device mps alone; float32 only; PYTORCH_ENABLE_MPS_FALLBACK is "
        yield Finding("device", "mps", OK, words + fallback)
    if is_there:
        return
    has_driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    build = f"torch for CUDA {torch.version.cuda}" if torch.version.cuda else "torch without CUDA"
    if not has_driver:
        yield Finding("device", "cuda", OK, f"no CUDA device; {build}: auto is the CPU")
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


def compiler_findings() -> Iterator[Finding]:
    """Look for what torch.compile needs."""
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


def data_findings() -> Iterator[Finding]:
    """Look at the folder of packs and at the pack of each image source."""
    from mamlcli.tasks.images.packs import find_pack, read_header
    from mamlcli.tasks.images.sources import SOURCES

    try:
        named, folder = os.environ.get("MAMLCLI_DATA"), data_dir()
    except MamlError:  # `places` says so
        return
    words = f"{folder}, {'named by MAMLCLI_DATA' if named else 'as MAMLCLI_DATA is not set'}"
    if named and not os.path.isdir(folder):
        is_file = os.path.lexists(folder)
        remedy = "set MAMLCLI_DATA to the folder that they are in"
        yield Finding(
            "data",
            "folder",
            LACKING,
            f"{folder}, which is {'no folder' if is_file else 'not there'}",
            "packs in it are not found",
            f"S{remedy[1:]}" if is_file else f"mkdir -p {shlex.quote(str(folder))}, or {remedy}",
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
            f"{header.num_images} images of {header.num_classes} classes, {shape}, in {path}"
            f"{_missing_classes(name, path)}",
            details={"path": str(path), "bytes": path.stat().st_size, **counts},
        )


def _missing_classes(source: str, path: Path) -> str:
    """Return words for the classes of a source's splits that its pack lacks; empty where there are none."""
    import numpy as np

    from mamlcli.tasks.images.class_splits import class_split
    from mamlcli.tasks.images.packs import Pack, read_class_names

    if source == "glyphs":
        return ""
    names = read_class_names(path)
    # The lists of names are published: they need no images.
    splits = class_split(source, Pack(np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64), names))
    missing = {split: sum(name not in set(names) for name in listed) for split, listed in splits.items()}
    return "".join(
        f"; {num} of {len(splits[split])} {split} classes are missing" for split, num in missing.items() if num
    )


def model_findings() -> Iterator[Finding]:
    """Read every trained model that ships with mamlcli."""
    from mamlcli.runs.entry import read_run

    models = {name: read_run(folder) for name, folder in shipped_models().items()}
    damaged = [name for name, model in models.items() if model.status == "damaged"]
    if damaged:
        words, remedy = f"{', '.join(damaged)} cannot be read", "pip install --force-reinstall mamlcli"
        yield Finding("program", "models", LACKING, words, "adapt and load cannot use them", remedy)
    else:
        yield Finding("program", "models", OK, f"{len(models)}, all readable")


def glyph_findings() -> Iterator[Finding]:
    """Tell whether the glyphs are drawn already."""
    from mamlcli.tasks.images.fonts import load_faces
    from mamlcli.tasks.images.glyphs import GLYPHS_VERSION

    drawn = cache_dir() / f"glyphs-v{GLYPHS_VERSION}-seed0.npz"
    try:
        load_faces()
    except DataError as error:
        status = LACKING if os.path.isfile(drawn) else BROKEN
        yield Finding(
            "data",
            "glyphs",
            status,
            first_line(error),
            "glyphs cannot be drawn",
            "pip install --force-reinstall matplotlib",
        )
        return
    words = f"drawn, in {drawn}" if os.path.isfile(drawn) else "not drawn yet; the first run that needs them does"
    yield Finding("data", "glyphs", OK, words)


# The program ---------------------------------------------------------------------------------------------------


def recipe_findings() -> Iterator[Finding]:
    """Load every shipped recipe."""
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


def meta_iteration_findings() -> Iterator[Finding]:
    """Run one small training step and time it."""
    from mamlcli.recipe.files import load_recipe
    from mamlcli.training.dry_run import dry_run

    _, recipe = load_recipe("linear-regression", ("outer.tasks=2", "execution.compile=false"))
    cost = dry_run(recipe)
    words = f"works on {cost.device} ({1000 * cost.seconds_per_iteration:.0f} ms, linear-regression, 2 tasks)"
    yield Finding("program", "a meta-iteration", OK, words)
