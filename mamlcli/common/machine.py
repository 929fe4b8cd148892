"""A run depends on this beside its recipe: versions, device, memory, cores, the time."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import mamlcli

if TYPE_CHECKING:
    import torch

# The folder that holds the package: the checkout, where it runs from one.
CHECKOUT = Path(__file__).parents[2]

_PACKAGES = ("torch", "torchvision", "numpy", "pydantic", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, by package; none of the packages is imported.

    The version of mamlcli is that of the code that runs, which may be a checkout that was never installed.
    """
    system = {"python": platform.python_version(), "platform": platform.platform()}
    return {"mamlcli": mamlcli.__version__, **system} | {name: package_version(name) for name in _PACKAGES}


def short_versions(found: Mapping[str, object]) -> dict[str, str]:
    """Return versions with the platform as a reader needs it: Linux without the build of its kernel.

    "Linux-6.8.0-45-generic-x86_64-with-glibc2.39" is "Linux-6.8-x86_64-with-glibc2.39"; others are left.
    """
    words = {name: str(version) for name, version in found.items()}
    if "platform" in words:
        pattern = r"^(Linux-\d+\.\d+)[^-]*-(?:.*?-)?(\w+)(-with-.*)?$"
        words["platform"] = re.sub(pattern, r"\1-\2\3", words["platform"])
    return words


def package_version(name: str) -> str:
    """Return the version of a package as it was installed, or "not installed"; the package is not imported."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def git_state() -> dict[str, str | bool] | None:
    """Return the commit of the checkout that the package runs from, and if files are changed; None outside of one."""
    if not (CHECKOUT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        status = _git("status", "--porcelain")
    except OSError:
        return None
    if commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "is_dirty": bool(status.stdout.strip())}


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(CHECKOUT), *words]
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")


def device_name(device: torch.device) -> str:
    """Return the name of a device as a person reads it, with its GPU or the number of cores."""
    if device.type == "cuda":
        import torch  # is loaded where there is a device

        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return f"mps (GPU of this {platform.machine()} Mac)"
    return f"cpu ({os.cpu_count()} cores)"


def peak_memory_mb(device: torch.device) -> float | None:
    """Return the peak memory so far: of the device on CUDA, of the process on the CPU; None where it is not known."""
    if device.type == "mps":
        return None  # torch counts what is used now, and no peak
    if device.type == "cuda":
        import torch  # is loaded where there is a device

        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def synchronize(device: torch.device) -> None:
    """Wait for a GPU to finish what it was given; nothing on the CPU."""
    import torch  # is loaded where there is a device

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def now() -> str:
    """Return the time now, in UTC, to the second, as ISO 8601 writes it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(num_processes: int) -> int:
    """Return the number of threads that each of several processes may use, so that together they fill the cores."""
    return max(1, num_cores() // num_processes)
