"""Says what can be done where a folder has too few classes, or too few images of them, for a recipe's tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import DataError, MamlError
from mamlcli.common.words import shown
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.schema import Recipe
from mamlcli.tasks.images.class_splits import Need, usable_classes
from mamlcli.tasks.images.packs import Pack
from mamlcli.training.class_needs import lacks_classes, need_of, needs_of, used_splits

Changes = dict[str, object]

# The classes that a shipped model tells apart, and which one is the nearest to grey and to colour images.
_MOST_OF_A_MODEL = 5
_MODELS = {1: "omniglot-5way-1shot@1", 3: "cifar-fs-5way-5shot@1"}
_PURPOSE = {"train": "to train on", "validation": "others for validation", "test": "others for the test"}
_LAST_RESORT: Changes = {"validation.every": None, "evaluation.split": "train"}


def shortage(recipe: Recipe, pack: Pack, where: str) -> DataError:
    """Return the error that a recipe's tasks need more classes than there are, with what works for this data.

    Args:
        recipe: whose tasks are of a folder.
        pack: its images.
        where: the folder or the pack's file.
    """
    changes = _least_changes(recipe, pack)
    needs = needs_of(recipe)
    error = DataError(
        f"tasks.ways ({shown(where)})",
        expected=_wanted(needs),
        got=_found(recipe, pack),
        why=_without_training(pack, where),
        next_step=_what_works(changes),
    )
    error.changes = _as_words(changes or {})
    return error


def changes_that_work(recipe: Recipe, pack: Pack) -> tuple[str, ...] | None:
    """Return the fewest changes KEY=VALUE with which a pack is enough for a recipe, None where it is for no task."""
    changes = _least_changes(recipe, pack)
    return None if changes is None else _as_words(changes)


def _least_changes(recipe: Recipe, pack: Pack) -> Changes | None:
    """Return the changes of a recipe with which the classes are enough, those first that change least."""
    for changes in _possible_changes(recipe, pack):
        try:
            if not lacks_classes(changed := changed_recipe(recipe, changes, "recipe"), pack, used_splits(changed)):
                return changes
        except MamlError:  # the keys do not go together, or too many classes are held back
            continue
    return None


def _possible_changes(recipe: Recipe, pack: Pack) -> Iterator[Changes]:
    tasks = recipe.tasks
    ways = range(tasks.ways, 1, -1)  # type: ignore[union-attr]
    sizes = [_changed_sizes(recipe, num) for num in _numbers_of_images(recipe, pack)]
    recorded = pack.source.class_splits
    milder: list[Changes] = [{}]
    if recorded and not recorded.get("test"):
        milder.append({"evaluation.split": "validation"})
    milder.append({"validation.every": None})
    # Where folders say the splits, fewer ways help only the smallest of them.
    pairs = (
        [(how, num) for num in ways for how in milder] if recorded else [(how, num) for how in milder for num in ways]
    )
    for how, num in [*pairs, *((_LAST_RESORT, num) for num in ways)]:
        for size in sizes:
            yield {**_changed(recipe, "ways", num), **size, **how}


def _numbers_of_images(recipe: Recipe, pack: Pack) -> list[int]:
    """Return how many images of a class a task may take: as many as it does, or as there are of some class."""
    most = max(need.num_images for need in (need_of(recipe.tasks), need_of(recipe.scored_tasks)))  # type: ignore[arg-type]
    return [most, *sorted({num for num in pack.class_counts().tolist() if 2 <= num < most}, reverse=True)]


def _changed_sizes(recipe: Recipe, num_images: int) -> Changes:
    """Return the changes that make a task take no more images of a class: fewer queries, then fewer shots."""
    changes: Changes = {}
    for of in (recipe.tasks, recipe.scored_tasks):
        shots = min(of.shots, num_images - 1)
        changes |= _changed(recipe, "shots", shots) | _changed(recipe, "queries", min(of.queries, num_images - shots))
    return changes


def _changed(recipe: Recipe, name: str, most: int) -> Changes:
    """Return the changes that make ways, shots or queries no larger than a number, in tasks and evaluation."""
    changes: Changes = {}
    if getattr(recipe.tasks, name) > most:
        changes[f"tasks.{name}"] = most
    if (getattr(recipe.evaluation, name) or 0) > most:
        changes[f"evaluation.{name}"] = most
    return changes


def _wanted(needs: dict[str, Need]) -> str:
    parts = [f"{needs[split].num_classes} {words}" for split, words in _PURPOSE.items() if split in needs]
    total = sum(need.num_classes for need in needs.values())
    num_images = max(need.num_images for need in needs.values())
    images = f" of at least {num_images} images each" if num_images else ""
    others = f": {', '.join(parts)}" if len(parts) > 1 else ""
    return f"{total} classes{images}{others}"


def _found(recipe: Recipe, pack: Pack) -> str:
    counts = dict(zip(pack.class_names, pack.class_counts().tolist(), strict=True))
    if (recorded := pack.source.class_splits) and getattr(recipe.tasks, "class_split", None) != "seeded":
        return ", ".join(f"{len(recorded.get(split, ()))} in {split}" for split in _PURPOSE) + _small(recipe, pack)
    named = ", ".join(f"{name} ({num})" for name, num in list(counts.items())[:8])
    more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    return f"{len(counts)}, each with its number of images: {named}{more}"


def _small(recipe: Recipe, pack: Pack) -> str:
    num_images = max(need.num_images for need in needs_of(recipe).values())
    small = pack.num_classes - len(usable_classes(pack, pack.class_names, Need(0, num_images)))
    return f", {small} of them with fewer images" if small else ""


def _without_training(pack: Pack, where: str) -> str | None:
    """Return how such images are classified by a trained model, if they are so few classes as it tells apart."""
    if not 2 <= pack.num_classes <= _MOST_OF_A_MODEL or pack.source.class_splits or not Path(where).is_dir():
        return None
    adapt = command("adapt", _MODELS[pack.images.shape[3]], "--support", where, "--query", where)
    return f"A trained model tells them apart without training: {adapt} (the last word: the images to classify)"


def _what_works(changes: Changes | None) -> str:
    if changes is None:
        return "The smallest task has 2 classes of 2 images: add folders or images"
    words = f"set {' '.join(_as_words(changes))}"
    if changes.items() >= _LAST_RESORT.items():
        return (
            "For a test on classes that were not trained on they are too few. They can all be trained on and scored, "
            f"which says nothing of new classes: {words}"
        )
    if "validation.every" in changes:
        return f"They are enough without meta-validation, which chooses the best weights: {words}"
    return f"They are enough with smaller tasks or another split: {words}"


def _as_words(changes: Changes) -> tuple[str, ...]:
    return tuple(f"{key}={'null' if value is None else value}" for key, value in changes.items())
