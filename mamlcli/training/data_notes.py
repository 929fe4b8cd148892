"""Says in words what a person should know of the data that a run is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mamlcli.common.words import shown
from mamlcli.recipe.schema import Recipe
from mamlcli.tasks.images.deep import bits_in_words
from mamlcli.tasks.images.packs import PackSource
from mamlcli.training.class_needs import used_splits

_MOST_SHOWN = 5


def data_notes(recipe: Recipe, data: Mapping[str, object], *, is_recorded: bool = True) -> list[str]:
    """Return sentences on the images of a folder: what was left out, how classes are split, how values are scaled.

    Args:
        recipe: that is trained.
        data: of its manifest, as `TaskSets.data`; nothing is said of sources other than "folder".
        is_recorded: whether there is a manifest, where all that is not named here can be read.
    """
    match data:
        case {"class_split": dict() as split, "left_out": dict() as left_out, "skipped": list() as skipped, **others}:
            source = PackSource.from_json(others.get("preprocessing"))
            return [
                *_split_notes(recipe, data, split, is_recorded=is_recorded),
                *_validation_note(source, split),
                *_small_note(left_out),
                *_case_note(split, left_out),
                *_range_note(source),
                *_skipped_notes(skipped, is_recorded=is_recorded),
                *_train_note(recipe),
            ]
    return []


def _split_notes(
    recipe: Recipe, data: Mapping[str, object], split: Mapping[str, Sequence[str]], *, is_recorded: bool
) -> list[str]:
    """Say how many classes there are, and of each split that is used how many and the first of them by name."""
    used = {name: names for name, names in split.items() if name in used_splits(recipe)}
    are_cut = any(len(names) > _MOST_SHOWN for names in used.values())
    where = " (all names: manifest.json)" if are_cut and is_recorded else ""
    return [
        f"{data['num_images']} images of {data['num_classes']} classes{where}",
        *(f"  {len(names)} in {name}: {_listed([shown(one) for one in names])}" for name, names in used.items()),
    ]


def _validation_note(source: PackSource, split: Mapping[str, Sequence[str]]) -> list[str]:
    recorded = source.class_splits
    if recorded is None or recorded.get("validation") or not split.get("validation"):
        return []
    num = len(split["validation"])
    return [f"no folder val: {num} of the classes of train are for validation, drawn by tasks.split_seed"]


def _small_note(left_out: Mapping[str, int]) -> list[str]:
    if not left_out:
        return []
    named = _listed([f"{shown(name)} ({num})" for name, num in left_out.items()])
    return [f"left out, too few images for a task: {named} (tasks.small_classes=refuse stops instead)"]


def _case_note(split: Mapping[str, Sequence[str]], left_out: Mapping[str, int]) -> list[str]:
    """Note classes that are perhaps one: their names differ in capital and small letters alone."""
    by_letters: dict[str, list[str]] = {}
    for name in sorted({name for names in split.values() for name in names} | set(left_out)):
        by_letters.setdefault(name.casefold(), []).append(name)
    twins = [" and ".join(shown(name) for name in names) for names in by_letters.values() if len(names) > 1]
    return [f"names that differ in capital letters alone are classes of their own: {_listed(twins)}"] if twins else []


def _range_note(source: PackSource) -> list[str]:
    white = source.preprocessing.get("white")
    return [bits_in_words(white)] if isinstance(white, int) else []


def _skipped_notes(skipped: Sequence[Sequence[str]], *, is_recorded: bool) -> list[str]:
    notes = [f"skipped {shown(file)}: {reason}" for file, reason in skipped[:_MOST_SHOWN]]
    more = len(skipped) - len(notes)
    where = ", all listed in manifest.json (data.skipped)" if is_recorded else ""
    return [*notes, *([f"skipped {more} more{where}"] if more else [])]


def _train_note(recipe: Recipe) -> list[str]:
    if recipe.evaluation.split != "train":
        return []
    return ["evaluation.split=train: the images that are scored are those that were trained on; new ones are harder"]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
