"""What a run depends on beside its recipe: versions, device, memory, signals."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


# The folder that holds the package: the checkout, where it runs from one.
_ROOT = Path(__file__).parents[2]


_PACKAGES = ("torch", "torchvision", "numpy", "pydantic", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, by package; none of the packages is imported."""
    system = {"python": platform.python_version(), "platform": platform.platform()}
    return {"mamlcli": package_version("mamlcli"), **system} | {name: package_version(name) for name in _PACKAGES}


def package_version(name: str) -> str:
    """Return the version of a package as it was installed, or "not installed"; the package is not imported."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def git_state() -> dict[str, str | bool] | None:
    """Return commit and cleanliness of the checkout that the package runs from; None outside of one."""
    if not (_ROOT / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "-C", str(_ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
        status = subprocess.run(["git", "-C", str(_ROOT), "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return None
    if commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "is_dirty": bool(status.stdout.strip())}


def device_name(device: torch.device) -> str:
    """Return the device in words."""
    if device.type == "cuda":
        import torch  # is loaded where there is a device

        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({os.cpu_count()} cores)"


def peak_memory_mb(device: torch.device) -> float | None:
    """Return the peak memory so far: of the device on CUDA, else of the process (None where the OS tells none)."""
    if device.type == "cuda":
        import torch  # is loaded where there is a device

        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def now() -> str:
    """Return the time in UTC, to the second, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def num_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(num_workers: int) -> int:
    """Return the threads that each of several processes may use, so that together they fill the cores."""
    return max(1, num_cores() // num_workers)
