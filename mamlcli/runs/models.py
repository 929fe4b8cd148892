"""Finds the trained models that ship with the package, by names such as `glyphs-5way-1shot@1`; they are runs to read.

A model is the folder of a finished run with less in it. Nothing is ever written there.

recipe.yaml                             the resolved recipe
manifest.json                           what the results depend on, without places, people and the command
checkpoints/best or last.safetensors    the meta-parameters alone
evaluation.json                         the result
scores.npy                              the scores of every task after the last inner step
noise_outputs.npy                       the outputs on a task of noise, to check the weights without data
README.md                               the model card
"""

from __future__ import annotations

import os
import re
from collections.abc import Container
from pathlib import Path

from mamlcli.common.errors import RunError
from mamlcli.common.names import RUNS
from mamlcli.common.words import nearest, one_line

CARD = "README.md"


# What may be a model's name; a key of a recipe with its value, or a longer path, is none.
# The name or the version alone is meant as a model's, too.
_NAME = re.compile(r"[^\s/\\@=]+@[^\s/\\@=]*|@[^\s/\\@=]+")


_MODELS_DIR = Path(__file__).parents[1] / "deploy" / "models"


def models_dir() -> Path:
    """Return the folder of the shipped models."""
    return _MODELS_DIR


def shipped_models() -> dict[str, Path]:
    """Return the folders of the shipped models by name, sorted, versions by number."""
    folders = (path for path in models_dir().glob("*@*") if path.is_dir())
    return {path.name: path for path in sorted(folders, key=_by_version)}


def _by_version(path: Path) -> tuple[str, int, str]:
    recipe, _, version = path.name.partition("@")
    return (recipe, int(version) if version.isdecimal() else -1, version)


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def model_card(folder: Path) -> str:
    """Return the model card of a shipped model, Markdown."""
    return (folder / CARD).read_text(encoding="utf-8")


def card_sections(folder: Path, titles: Container[str]) -> str:
    """Return the sections of a model card that have these titles, Markdown."""
    sections = model_card(folder).split("\n## ")[1:]
    return "\n\n".join(f"## {section.strip()}" for section in sections if section.partition("\n")[0] in titles)


def is_model(path: Path) -> bool:
    """Return whether a folder is that of a shipped model."""
    return "@" in path.name and path.parent == models_dir()


def label_of(path: Path | str) -> str:
    """Return what messages and results call a run: its folder, or the name of a shipped model."""
    folder = Path(path)
    return folder.name if is_model(folder) else str(path)


def run_folder(path: Path) -> Path:
    """Return the folder that a word means: itself, else the run of that name below runs/, else a shipped model.

    Raises:
        RunError: it has the form of a model's name, and there is no such model; the message names the nearest.
    """
    if os.path.lexists(path):
        return path
    if os.path.isdir(below := RUNS / path):
        return below
    if not _NAME.fullmatch(str(path)):
        return path
    return model_folder(str(path), expected="a run directory or a trained model that ships with mamlcli", got="neither")


def model_folder(name: str, *, expected: str = "a trained model that ships with mamlcli", got: str = "none") -> Path:
    """Return the folder of the shipped model of that name.

    Args:
        name: as in `shipped_models`.
        expected, got: words of the message where there is none.

    Raises:
        RunError: there is none; the message names the nearest.
    """
    models = shipped_models()
    if name not in models:
        where = one_line(name).strip() or repr(name)
        hint = nearest(name, models).strip() or None
        raise RunError(where, expected=expected, got=got, why=hint, next_step="Run: mamlcli models ls")
    return models[name]


def like_model(text: str) -> str | None:
    """Return a question after the shipped model that a word without a version may mean; None if there is none."""
    return nearest(text, (name for name in shipped_models() if name.partition("@")[0] == text), 0.0).strip() or None
