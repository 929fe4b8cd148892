"""Makes the task distributions of a recipe, one for each split, from its data."""

from __future__ import annotations

from pathlib import Path

import torch

from mamlcli.common.errors import DataError
from mamlcli.common.names import Augmentation
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import FolderTasks, ImageTasks
from mamlcli.tasks.episodes import TaskDistribution
from mamlcli.tasks.fewshot import device_images, fewshot_tasks
from mamlcli.tasks.images.class_splits import class_split
from mamlcli.tasks.images.glyphs import load_glyphs
from mamlcli.tasks.images.ink import image_record
from mamlcli.tasks.images.packs import Pack, find_pack, load_pack, pack_digest
from mamlcli.tasks.images.sources import pack_of_tree
from mamlcli.tasks.synthetic import SYNTHETIC


def build_tasks(
    recipe: Recipe, *, splits: tuple[str, ...], device: torch.device, dtype: torch.dtype
) -> tuple[dict[str, TaskDistribution], TaskDistribution | None, dict[str, object]]:
    """Return the tasks of each split that are scored, those that are trained on, and what the data is."""
    tasks = recipe.tasks
    if isinstance(tasks, ImageTasks | FolderTasks):
        return _image_tasks(recipe, tasks, splits=splits, device=device, dtype=dtype)
    keys = tasks.model_dump(exclude={"source"})
    distribution: TaskDistribution = SYNTHETIC[tasks.source](**keys, dtype=dtype, device=device)
    # A synthetic split is a stream of tasks of its own; the distribution is the same.
    training = distribution if "train" in splits else None
    return dict.fromkeys(splits, distribution), training, {"source": tasks.source, "generated": True}


def _image_tasks(
    recipe: Recipe,
    tasks: ImageTasks | FolderTasks,
    *,
    splits: tuple[str, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[dict[str, TaskDistribution], TaskDistribution | None, dict[str, object]]:
    pack, where, skipped = load_image_pack(tasks)
    names = class_split(tasks.source, pack, split_name=tasks.class_split, seed=tasks.split_seed)
    images = device_images(pack, device)

    def made(split: str, augment: list[Augmentation]) -> TaskDistribution:
        return fewshot_tasks(
            pack,
            images,
            names[split],
            where=f"{where}, {split} split",
            ways=tasks.ways,
            shots=tasks.shots,
            queries=tasks.queries,
            rotations=tasks.rotations,
            dtype=dtype,
            augment=augment,
        )

    distributions = {split: made(split, []) for split in splits}
    training = made("train", tasks.augment) if "train" in splits else None
    data = {
        "source": tasks.source,
        "pack": where,
        "num_images": len(pack.images),
        "num_classes": pack.num_classes,
        "digest": pack_digest(pack),
        "preprocessing": pack.source.to_json(),
        "images": record.to_dict() if (record := image_record(pack)) else None,
        "skipped": skipped,
    }
    return distributions, training, data


def load_image_pack(tasks: ImageTasks | FolderTasks) -> tuple[Pack, str, list[tuple[str, str]]]:
    """Return the pack of an image source, where it came from, and (file, reason) of files not taken.

    Raises:
        DataError: there is none; the message names the commands that make one.
    """
    if tasks.path is not None:
        path = Path(tasks.path).expanduser()
        if isinstance(tasks, FolderTasks) and path.is_dir():
            pack, skipped = pack_of_tree(
                "folder", path, size=tasks.image_size, channels=tasks.channels, invert=tasks.invert
            )
            return pack, str(path), skipped
        if isinstance(tasks, FolderTasks) and not path.exists():
            raise DataError(
                "tasks.path",
                expected="a folder of class folders, or a pack",
                got=f"{tasks.path!r}, which does not exist",
            )
        return load_pack(path), str(path), []
    if tasks.source == "glyphs":
        return load_glyphs(), "glyphs", []
    if isinstance(tasks, FolderTasks):
        raise DataError(
            "tasks.path",
            expected="a folder of class folders, or a pack",
            got="nothing",
            next_step="Run: mamlcli train folder tasks.path=DIR",
        )
    path_of_pack = find_pack(tasks.source)
    if path_of_pack is None:
        raise DataError(
            "tasks.source",
            expected=f"a pack {tasks.source}.npz in $MAMLCLI_DATA or the cache folder",
            got="none",
            next_step=f"Run: mamlcli data fetch {tasks.source}, or: mamlcli data import {tasks.source} PATH",
        )
    return load_pack(path_of_pack), str(path_of_pack), []
