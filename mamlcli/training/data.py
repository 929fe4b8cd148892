"""Makes the task distributions of a recipe, one for each split, from its data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from mamlcli.common.errors import DataError
from mamlcli.common.files import user_path
from mamlcli.common.names import HELD_BACK
from mamlcli.recipe.plugin_schema import FewShotKeys, SourceKeys
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import FolderTasks, GivenClassTasks, GivenTasks, ImageTasks
from mamlcli.tasks.episodes import TaskDistribution
from mamlcli.tasks.few_shot_data import FewShotData
from mamlcli.tasks.fewshot import TASK_KEYS, device_images, fewshot_tasks
from mamlcli.tasks.given import GivenDistribution, name_of
from mamlcli.tasks.images.class_splits import Need
from mamlcli.tasks.images.find import load_pack_of
from mamlcli.tasks.images.glyphs import load_glyphs
from mamlcli.tasks.images.ink import image_record
from mamlcli.tasks.images.packs import Pack, find_pack, load_pack, pack_digest
from mamlcli.tasks.images.sources import how_to_get, pack_of_tree
from mamlcli.tasks.synthetic import SYNTHETIC
from mamlcli.training.class_needs import class_record, classes_of_splits, lacks_classes, large_classes, used_splits
from mamlcli.training.given import given_now, part_of, sizes_given, split_objects
from mamlcli.training.plugins import plugin_sizes, plugin_tasks
from mamlcli.training.shortage import shortage


@dataclass(frozen=True)
class TaskSets:
    """The task distributions of a recipe.

    Attributes:
        scored: the tasks that are scored, for each split that was asked for. The split train is left out if tasks
            that are scored have other ways, shots or queries than tasks that are trained on, and the final
            evaluation is on another split: then no task of train is scored, and its classes may have too few
            images for one.
        training: the tasks that are trained on; None unless the split train was asked for.
        input_shape, num_outputs: those of a network that is trained on the recipe's tasks.
        data: what the data is, primitives, for the manifest.
    """

    scored: dict[str, TaskDistribution]
    training: TaskDistribution | None
    input_shape: tuple[int, ...]
    num_outputs: int
    data: dict[str, object]


def build_tasks(
    recipe: Recipe,
    *,
    splits: tuple[str, ...],
    device: torch.device,
    dtype: torch.dtype,
    trained_by: Recipe | None = None,
) -> TaskSets:
    """Return the task distributions of a recipe's splits, and what their data is.

    Args:
        recipe: resolved.
        splits: those that are wanted.
        device, dtype: of the episodes.
        trained_by: the recipe that a run was trained by, where this one scores it by another protocol: its classes
            are split as they were.
    """
    tasks, scored_tasks = recipe.tasks, recipe.scored_tasks
    if isinstance(tasks, ImageTasks | FolderTasks):
        return _image_tasks(recipe, splits, trained_by, device=device, dtype=dtype)
    if isinstance(tasks, GivenClassTasks):
        given = part_of(recipe, "tasks")
        return _class_tasks(recipe, splits, trained_by or recipe, given, device=device, dtype=dtype)
    if isinstance(tasks, SourceKeys):
        return _plugin_tasks(recipe, splits, trained_by or recipe, device=device, dtype=dtype)
    if isinstance(tasks, GivenTasks):
        return _given_tasks(recipe, splits, device=device, dtype=dtype)
    make = SYNTHETIC[tasks.source]
    training: TaskDistribution = make(**tasks.model_dump(exclude={"source"}), dtype=dtype, device=device)
    scored = training
    if scored_tasks != tasks:
        scored = make(**scored_tasks.model_dump(exclude={"source"}), dtype=dtype, device=device)
    return TaskSets(
        # A synthetic split is a stream of tasks of its own; the distribution is the same.
        scored=dict.fromkeys(splits, scored),
        training=training if "train" in splits else None,
        input_shape=training.input_shape,
        num_outputs=training.num_outputs,
        data={"source": tasks.source, "generated": True},
    )


def _given_tasks(recipe: Recipe, splits: tuple[str, ...], *, device: torch.device, dtype: torch.dtype) -> TaskSets:
    """Return the tasks of an object that is given from Python, or of one for each split."""
    tasks, given = recipe.tasks, part_of(recipe, "tasks")
    assert isinstance(tasks, GivenTasks)
    if isinstance(given, FewShotData):
        raise _other_kind(expected="an object with sample(generators)", got="mamlcli.few_shot_tasks")
    by_split = split_objects(given)
    sizes = given_now().made("sizes", lambda: sizes_given(given))
    noted = replace(
        sizes,
        num_support=tasks.shots,
        num_query=tasks.queries,
        num_outputs=tasks.classes or sizes.num_outputs,
        is_classification=tasks.is_classification,
    )
    if noted != sizes:
        raise DataError("tasks", expected=f"an object whose tasks are as the recipe says, {noted}", got=str(sizes))
    scored: dict[str, TaskDistribution] = {
        split: GivenDistribution(by_split[split], sizes, dtype, device) for split in splits
    }
    return TaskSets(
        scored,
        scored.get("train"),
        sizes.input_shape,
        sizes.num_outputs,
        {"source": tasks.source, "generated": True, "class": name_of(given)},
    )


def _plugin_tasks(
    recipe: Recipe, splits: tuple[str, ...], trained_by: Recipe, *, device: torch.device, dtype: torch.dtype
) -> TaskSets:
    """Return the tasks of a plug-in; those that are scored are made of keys of their own, where they differ."""
    tasks, scored_tasks = recipe.tasks, recipe.scored_tasks
    assert isinstance(tasks, SourceKeys)
    assert isinstance(scored_tasks, SourceKeys)
    made = plugin_tasks(tasks)
    if isinstance(made, FewShotData):
        return _class_tasks(recipe, splits, trained_by, made, device=device, dtype=dtype)
    by_split, sizes = split_objects(made), plugin_sizes(tasks)
    scored_by_split, scored_sizes = split_objects(plugin_tasks(scored_tasks)), plugin_sizes(scored_tasks)
    return TaskSets(
        {split: GivenDistribution(scored_by_split[split], scored_sizes, dtype, device) for split in splits},
        GivenDistribution(by_split["train"], sizes, dtype, device) if "train" in splits else None,
        sizes.input_shape,
        sizes.num_outputs,
        {"source": tasks.source, "generated": True, "class": name_of(made)},
    )


def _class_tasks(
    recipe: Recipe,
    splits: tuple[str, ...],
    trained_by: Recipe,
    given: object,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> TaskSets:
    """Return few-shot tasks of examples that are given from Python, or that a plug-in has."""
    tasks, scored_tasks = recipe.tasks, recipe.scored_tasks
    assert isinstance(tasks, GivenClassTasks | FewShotKeys)
    assert isinstance(scored_tasks, GivenClassTasks | FewShotKeys)
    if not isinstance(given, FewShotData):
        raise _other_kind(expected="mamlcli.few_shot_tasks(...)", got=name_of(given))
    names = given.classes_of_splits(_needs_of_given(trained_by))
    inputs = given.inputs.to(device)

    def made(split: str, of: GivenClassTasks | FewShotKeys, keys: Mapping[str, str]) -> TaskDistribution:
        sizes = {"ways": of.ways, "shots": of.shots, "queries": of.queries}
        return given.tasks(split, names[split], inputs, **sizes, dtype=dtype, keys=keys)

    keys = {name: recipe.scored_key(name) for name in TASK_KEYS}
    training = made("train", tasks, TASK_KEYS) if "train" in splits else None
    wanted = [split for split in splits if split != "train" or training is None or recipe.evaluation.split == "train"]
    return TaskSets(
        {split: made(split, scored_tasks, keys) for split in wanted},
        training,
        tuple(inputs.shape[1:]),
        tasks.ways,
        {
            "source": tasks.source,
            "num_examples": len(inputs),
            "num_classes": len(given.class_names),
            "digest": given.digest,
            "splits": {split: list(of_split) for split, of_split in names.items()},
        },
    )


def _needs_of_given(recipe: Recipe) -> dict[str, Need]:
    """Return what each split needs that a recipe of given examples uses."""
    training, scored = recipe.tasks, recipe.scored_tasks
    assert isinstance(training, GivenClassTasks | FewShotKeys)
    assert isinstance(scored, GivenClassTasks | FewShotKeys)
    sizes = {split: training if split == "train" else scored for split in used_splits(recipe)}
    return {split: Need(of.ways, of.shots + of.queries) for split, of in sizes.items()}


def _other_kind(*, expected: str, got: str) -> DataError:
    next_step = "Give the tasks that it was trained on, or train a new run"
    return DataError("tasks", expected=f"{expected}, as the recipe says", got=got, next_step=next_step)


def _image_tasks(
    recipe: Recipe,
    splits: tuple[str, ...],
    trained_by: Recipe | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> TaskSets:
    tasks, scored_tasks = recipe.tasks, recipe.scored_tasks
    assert isinstance(tasks, ImageTasks | FolderTasks)
    assert isinstance(scored_tasks, ImageTasks | FolderTasks)
    pack, where, skipped = load_image_pack(tasks)
    names = classes_of_splits(trained_by or recipe, pack)
    used = [split for split in splits if split in used_splits(recipe)]
    if isinstance(tasks, FolderTasks) and trained_by is None and lacks_classes(recipe, pack, used):
        raise shortage(recipe, pack, where)
    images = device_images(pack, device)

    def made(
        split: str, of: ImageTasks | FolderTasks, keys: Mapping[str, str], augment: Sequence[str] = ()
    ) -> TaskDistribution:
        return fewshot_tasks(
            pack,
            images,
            large_classes(of, pack, names[split], where=f"{where}, {split} split"),
            where=f"{where}, {split} split",
            ways=of.ways,
            shots=of.shots,
            queries=of.queries,
            rotations=of.rotations,
            dtype=dtype,
            keys=keys,
            augment=augment,
        )

    training = made("train", tasks, TASK_KEYS, tasks.augment) if "train" in splits else None
    scored_keys = {name: recipe.scored_key(name) for name in TASK_KEYS}
    is_same = scored_tasks == tasks
    is_other_size = any(getattr(scored_tasks, name) != getattr(tasks, name) for name in TASK_KEYS)
    scored: dict[str, TaskDistribution] = {}
    for split in splits:
        if split == "train" and training is not None and is_same:
            scored[split] = training
        elif split != "train" or not is_other_size or recipe.evaluation.split == "train":
            scored[split] = made(split, scored_tasks, scored_keys)
    return TaskSets(scored, training, tuple(images.shape[1:]), tasks.ways, _record(recipe, pack, names, where, skipped))


def _record(
    recipe: Recipe, pack: Pack, names: Mapping[str, Sequence[str]], where: str, skipped: list[tuple[str, str]]
) -> dict[str, object]:
    """Return what the manifest says of images."""
    tasks = recipe.tasks
    assert isinstance(tasks, ImageTasks | FolderTasks)
    return {
        "source": tasks.source,
        "pack": where if where == "glyphs" else os.path.abspath(where),
        "num_images": len(pack.images),
        "num_classes": pack.num_classes,
        "digest": pack_digest(pack),
        "preprocessing": pack.source.to_json(),
        "images": record.to_dict() if (record := image_record(pack)) else None,
        "skipped": skipped,
        **({"held_back": list(names[HELD_BACK])} if tasks.held_back else {}),
        **(class_record(recipe, pack, names) if isinstance(tasks, FolderTasks) else {}),
    }


def load_image_pack(tasks: ImageTasks | FolderTasks) -> tuple[Pack, str, list[tuple[str, str]]]:
    """Return the pack of an image source, where it came from, and (file, reason) of files not taken.

    Raises:
        DataError: there is none; the message names the commands that make one.
    """
    if tasks.path is not None:
        path = user_path(tasks.path, "tasks.path")
        if isinstance(tasks, FolderTasks) and path.is_dir():
            pack, skipped = pack_of_tree(
                "folder",
                path,
                size=tasks.image_size,
                channels=tasks.channels,
                invert=tasks.invert,
                class_level=tasks.class_level,
            )
            return pack, str(path), skipped
        if isinstance(tasks, FolderTasks) and not path.exists():
            raise DataError(
                "tasks.path",
                expected="a folder of class folders, or a pack",
                got=f"{tasks.path!r}, which does not exist",
            )
        return load_pack_of(path, tasks.source), str(path), []
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
            next_step=f"Run: {how_to_get(tasks.source)}",
        )
    return load_pack(path_of_pack), str(path_of_pack), []
