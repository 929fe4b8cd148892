"""Says which classes each split of a recipe has, and what its tasks need of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mamlcli.common.errors import DataError
from mamlcli.common.names import HELD_BACK
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import FolderTasks, ImageTasks
from mamlcli.tasks.images.class_splits import Need, class_split, usable_classes, with_held_back
from mamlcli.tasks.images.packs import Pack


def used_splits(recipe: Recipe) -> tuple[str, ...]:
    """Return the splits that meta-training, meta-validation and the final evaluation use."""
    names = ["train", *([recipe.validation_split] if recipe.validation.every else []), recipe.evaluation.split]
    return tuple(dict.fromkeys(names))


def need_of(tasks: ImageTasks | FolderTasks) -> Need:
    """Return how many classes such tasks need, and how many images of each; a class counts with its rotations."""
    return Need(math.ceil(tasks.ways / (4 if tasks.rotations else 1)), tasks.shots + tasks.queries)


def needs_of(recipe: Recipe) -> dict[str, Need]:
    """Return what each split needs that a recipe of images uses; classes to hold back are taken from train."""
    tasks, scored_tasks = recipe.tasks, recipe.scored_tasks
    assert isinstance(tasks, ImageTasks | FolderTasks)
    assert isinstance(scored_tasks, ImageTasks | FolderTasks)
    training, scored = need_of(tasks), need_of(scored_tasks)
    used = used_splits(recipe)
    needs = {split: scored for split in used if split in ("validation", "test")}
    num_train = max(
        training.num_classes + tasks.held_back, scored.num_classes if recipe.evaluation.split == "train" else 0
    )
    needs["train"] = replace(training, num_classes=num_train)
    if isinstance(tasks, FolderTasks) and tasks.small_classes == "refuse":
        return {split: replace(need, num_images=0) for split, need in needs.items()}  # all classes are split
    return needs


def classes_of_splits(recipe: Recipe, pack: Pack) -> dict[str, tuple[str, ...]]:
    """Return the class names of each split of a recipe, those held back among them.

    Args:
        recipe: that is, or was, trained: what its tasks need decides how few classes are split.
        pack: its images.

    Raises:
        DataError: the pack cannot be split so, or train has too few classes to hold some back.
    """
    tasks = recipe.tasks
    assert isinstance(tasks, ImageTasks | FolderTasks)
    needs = needs_of(recipe)
    names = class_split(tasks.source, pack, split_name=tasks.class_split, seed=tasks.split_seed, needs=needs)
    if isinstance(tasks, FolderTasks):
        names["train"] = usable_classes(pack, names["train"], needs["train"])
    return with_held_back(names, tasks.held_back, num_needed=need_of(tasks).num_classes, seed=tasks.split_seed)


def lacks_classes(recipe: Recipe, pack: Pack, splits: Iterable[str]) -> bool:
    """Return whether one of the splits has fewer classes with images enough than a task has classes."""
    tasks, scored_tasks = recipe.tasks, recipe.scored_tasks
    assert isinstance(tasks, FolderTasks)
    assert isinstance(scored_tasks, FolderTasks)
    names = classes_of_splits(recipe, pack)
    wanted = [(split, need_of(tasks if split == "train" else scored_tasks)) for split in splits]
    if "train" in splits and recipe.evaluation.split == "train":
        wanted.append(("train", need_of(scored_tasks)))
    if tasks.small_classes == "refuse":
        wanted = [(split, replace(need, num_images=0)) for split, need in wanted]
    return any(len(usable_classes(pack, names[split], need)) < need.num_classes for split, need in wanted)


def large_classes(tasks: ImageTasks | FolderTasks, pack: Pack, names: Sequence[str], *, where: str) -> Sequence[str]:
    """Return the named classes of a folder without those that have too few images for a task; all of another source.

    Raises:
        DataError: some have, and `tasks.small_classes` is "refuse".
    """
    if not isinstance(tasks, FolderTasks):
        return names
    need = need_of(tasks)
    large = usable_classes(pack, names, need)
    if tasks.small_classes == "leave-out" or len(large) == len(names):
        return large
    counts = dict(zip(pack.class_names, pack.class_counts().tolist(), strict=True))
    raise DataError(
        f"tasks.small_classes ({where})",
        expected=f"at least {need.num_images} images of each class",
        got=", ".join(f"{counts[name]} of {name!r}" for name in names if name not in large),
        next_step="Add images, lower tasks.queries, or set tasks.small_classes=leave-out",
    )


def class_record(recipe: Recipe, pack: Pack, names: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Return what a manifest says of the classes of a folder: those of each split, and those left out as too small."""
    needs = needs_of(recipe)
    least = max(need.num_images for need in needs.values())
    used = set(used_splits(recipe))
    kept = {name for split, part in names.items() for name in part if split not in used}
    for split in used & set(needs):
        kept.update(usable_classes(pack, names[split], needs[split]))
    kept.update(names.get(HELD_BACK, ()))
    counts = zip(pack.class_names, pack.class_counts().tolist(), strict=True)
    left_out = {name: num for name, num in counts if num < least and name not in kept}
    return {"class_split": {split: list(part) for split, part in names.items()}, "left_out": left_out}
