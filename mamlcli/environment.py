"""What a run depends on beside its recipe: versions, device, memory, signals."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import mamlcli


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {
        "mamlcli": mamlcli.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for package in ("torch", "torchvision", "numpy", "pydantic", "safetensors"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the checkout that the package runs from; None outside of one."""
    root = Path(mamlcli.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
        status = subprocess.run(["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return None
    if commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "is_dirty": bool(status.stdout.strip())}


def device_name(device: torch.device) -> str:
    """Return the device in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({os.cpu_count()} cores)"


def peak_memory_mb(device: torch.device) -> float | None:
    """Return the peak memory so far: of the device on CUDA, else of the process (None where the OS tells none)."""
    if device.type == "cuda":
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


@contextmanager
def interruption_flag(*, second_ends: bool = True) -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag that is asked between steps; a second one ends the process at once.

    Args:
        second_ends: whether it does; a worker may hear of one interruption twice.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received and second_ends:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(received)
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
