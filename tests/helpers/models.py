"""Folders of trained models that tests use in place of those that ship with the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mamlcli.deploy import shipping
from mamlcli.runs import models
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.trained import TrainedRun, open_trained, recipe_elsewhere

GLYPHS = "glyphs-5way-1shot@1"


def use_models_dir(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Look for models in another folder, which is made, for one test."""
    folder.mkdir(exist_ok=True)
    for module in (models, shipping):
        monkeypatch.setattr(module, "models_dir", lambda: folder)
    return folder


def named_copies(folder: Path, *names: str) -> None:
    """Copy a shipped model to other names in a folder."""
    source = models.models_dir() / GLYPHS
    for name in names:
        shutil.copytree(source, folder / name)


def opened(path: Path | str) -> TrainedRun:
    """Open a run or a shipped model on the CPU, without its data."""
    run = RunDirectory.open(Path(path))
    return open_trained(run, recipe_elsewhere(run, where=str(path), device="cpu"))


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_json(file: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
