"""Runs as trackers are told of them, and trackers of packages that a test installs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mamlcli.common.plugins import installed
from mamlcli.training.trackers.interface import TrackedRun


def tracked(path: Path, name: str = "any", *, iteration: int = 0, records=(), study: str | None = None) -> TrackedRun:
    """Return a run whose folder is made, with these lines of metrics."""
    folder = path / "trackers" / name
    folder.mkdir(parents=True, exist_ok=True)
    metrics = "".join(json.dumps(record) + "\n" for record in records)
    (path / "metrics.jsonl").write_text(metrics)
    settings = {"inner.lr": 0.1, "inner.adapt": None, "tasks.source": "logistic"}
    return TrackedRun(path.name, "logistic", path, folder, study, settings, iteration, len(metrics))


def install_tracker(monkeypatch, folder: Path, code: str, **names: str) -> None:
    """Put a module `tracking` with code onto sys.path, as a package whose entry points have these names.

    Args:
        monkeypatch: of the test.
        folder: an empty one.
        code: of the module.
        names: of the trackers, with the names that the code has for their classes.
    """
    info = folder / "tracking-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "tracking.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tracking\nVersion: 1.0\n")
    points = "".join(f"{name} = tracking:{value}\n" for name, value in names.items())
    (info / "entry_points.txt").write_text(f"[mamlcli.trackers]\n{points}")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    installed.cache_clear()
