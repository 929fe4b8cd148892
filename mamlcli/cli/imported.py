"""Says what `mamlcli data import` made: classes, splits, what was left out, and the command that trains on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mamlcli.cli import console
from mamlcli.common.commands import command
from mamlcli.common.names import SPLITS
from mamlcli.common.words import shown
from mamlcli.recipe.files import load_recipe
from mamlcli.recipe.tasks_schema import ImageTasks
from mamlcli.tasks.images.class_splits import class_split
from mamlcli.tasks.images.deep import FULL, bits_in_words
from mamlcli.tasks.images.known_classes import classes_by_split
from mamlcli.tasks.images.packs import Pack, find_pack
from mamlcli.tasks.images.sources import ImportReport
from mamlcli.training.shortage import changes_that_work

# The recipe that trains on a source.
RECIPES = {
    "omniglot": "omniglot-5way-1shot",
    "cifar-fs": "cifar-fs-5way-5shot",
    "fc100": "fc100-5way-5shot",
    "mini-imagenet": "mini-imagenet-5way-1shot",
}
_MAX_SKIPPED_SHOWN = 10
_NUM_NAMES_SHOWN = 5

# Classes that are held back where a set has no classes for validation: as many as mini-ImageNet and CIFAR-FS have.
_NUM_HELD_BACK = 16


def show_import(report: ImportReport) -> None:
    """Print what an import made, and on standard error what is worth a warning."""
    preprocessing = report.preprocessing
    height, width, channels = report.pack.images.shape[1:]
    inverted = ", inverted" if preprocessing.invert else ""
    console.result_text(
        f"Wrote {report.path}: {report.num_images} images of {report.num_classes} classes, "
        f"{height}x{width}x{channels}{inverted}"
    )
    console.result_text(f"Classes: {first_names(report.pack)}")
    console.result_text(f"Splits: {splits_in_words(report.pack)}")
    for note in report.notes:
        console.warn(note)
    if report.preprocessing.white != FULL:
        console.note(bits_in_words(report.preprocessing.white))
    for file, reason in report.skipped[:_MAX_SKIPPED_SHOWN]:
        console.warn(f"skipped {file}: {reason}")
    more = len(report.skipped) - _MAX_SKIPPED_SHOWN
    if more > 0:
        console.warn(f"skipped {more} more files")
    next_step = train_command(report)
    console.result_text(f"Next: {next_step}" if next_step else "Next: add classes; the smallest task has 2 of 2 images")


def first_names(pack: Pack) -> str:
    """Return the first names of a pack's classes, and of their groups if there are any, as one line."""
    groups = list(dict.fromkeys(pack.class_groups or ()))
    return _first(pack.class_names) + (f" (in {len(groups)} groups: {_first(groups)})" if groups else "")


def _first(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _NUM_NAMES_SHOWN else ""
    return ", ".join(shown(name) for name in names[:_NUM_NAMES_SHOWN]) + more


def splits_in_words(pack: Pack) -> str:
    """Say how many of a pack's classes each split has, and who says so."""
    recorded = pack.source.class_splits
    counts = classes_by_split(pack.source.name or "", pack.class_names)
    if counts and not (recorded and not any(there for there, _ in counts.values())):
        parts = [
            f"{split} {there}" + (f" of {total}" if there < total else "") for split, (there, total) in counts.items()
        ]
        return ", ".join(parts) + " (the published lists)"
    if recorded:
        return ", ".join(f"{split} {len(recorded.get(split, ()))}" for split in SPLITS) + " (as the files say)"
    return "none in the files; a seed draws them (tasks.split_seed)"


def train_command(report: ImportReport) -> str | None:
    """Return the command that trains on what is in an imported pack; None if it has too little for any task."""
    source = report.pack.source.name or ""
    words = _published_words(report, source) if source in RECIPES else None
    if words is None:
        return folder_command(report.pack, report.path)
    return command("train", *words)


def _published_words(report: ImportReport, source: str) -> list[str] | None:
    """Return the recipe of a source and what to change in it; None where only a part of its classes can be used."""
    pack, recipe = report.pack, load_recipe(RECIPES[source])[1]
    assert isinstance(recipe.tasks, ImageTasks)
    there = set(pack.class_names)
    splits = class_split(source, pack)
    whole = {split: bool(names) and there.issuperset(names) for split, names in splits.items()}
    num_images = recipe.tasks.shots + recipe.tasks.queries
    if not whole["train"] or not (whole["validation"] or whole["test"]) or pack.class_counts().min() < num_images:
        return None
    words = [RECIPES[source]]
    if find_pack(source) != report.path:
        words.append(f"tasks.path={report.path}")
    if not whole["validation"]:
        words.append(f"tasks.held_back={_NUM_HELD_BACK}")
    if not whole["test"]:
        words.append("evaluation.split=validation")
    return words


def folder_command(pack: Pack, path: Path | str) -> str | None:
    """Return the command that trains on the classes of a pack as on images of one's own; None if they are too few."""
    changes = changes_that_work(load_recipe("folder")[1], pack)
    return None if changes is None else command("train", "folder", f"tasks.path={path}", *changes)
