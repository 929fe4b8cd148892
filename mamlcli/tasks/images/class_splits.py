"""Splits classes into meta-train, meta-validation and meta-test: by published lists, by folders, or by a seed."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

from mamlcli.common.errors import DataError
from mamlcli.common.names import CLASS_SPLITS, HELD_BACK, SPLITS
from mamlcli.common.words import nearest
from mamlcli.tasks.images.packs import Pack

# Finn et al. 2017, arXiv:1703.03400, section 5.2: 1200 characters drawn at random for meta-training, the rest
# for meta-testing. Of these 423, 100 are kept for meta-validation here.
_OMNIGLOT_SEEDED = (1200, 100, 323)

# Sources whose default class split is a published one, by which others compare their results.
PUBLISHED_SOURCES = ("omniglot", "cifar-fs", "fc100", "mini-imagenet")

# The proportions of mini-ImageNet and CIFAR-FS: 64, 16 and 20 of 100 classes.
_FOLDER_FRACTIONS = (0.64, 0.16, 0.20)


@dataclass(frozen=True)
class Need:
    """A need is what the tasks of one split cannot do without: so many classes that have so many images each."""

    num_classes: int
    num_images: int


Needs = Mapping[str, Need]


def class_split(
    source: str, pack: Pack, *, split_name: str | None = None, seed: int = 0, needs: Needs | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the class names of meta-train, meta-validation and meta-test.

    Published lists are returned as they are, not cut down to the pack: a class that the pack lacks is an
    error only for the split that a command uses (see `select_classes`).

    Args:
        source: "glyphs", "omniglot", "cifar-fs", "fc100", "mini-imagenet" or "folder".
        pack: the images; its class names are what a seed splits, its `source` says which folders they had.
        split_name: one of `CLASS_SPLITS[source]`; None is the default: the first, or for a folder "folders"
            where the pack records them and "seeded" where it does not.
        seed: of the seeded splits; without effect on the others.
        needs: of the splits that are used, for "folder". Where the split in fixed proportions has too few classes for
            them and there are enough in all, each split gets those that it needs; where the folders have no
            validation, a part of their train becomes it. Where there are not enough, the split has too few classes.

    Returns:
        Class names under "train", "validation" and "test", without overlap.

    Raises:
        DataError: the source or split is unknown, or the pack is not one that can be split so.

    Source: Omniglot "vinyals": Vinyals et al. 2016, arXiv:1606.04080, in the lists of Snell et al. 2017.
        cifar-fs: Bertinetto et al. 2019, arXiv:1805.08136. fc100: Oreshkin et al. 2018, arXiv:1805.10123, by
        superclass. mini-imagenet: Ravi and Larochelle 2017. No known deviation.
    """
    name = _split_name(source, pack, split_name)
    if source == "glyphs":
        from mamlcli.tasks.images.glyphs import glyph_splits  # slow to load, and needed for glyphs alone

        return glyph_splits(pack)
    if source == "folder":
        return _recorded_split(pack, seed, needs or {}) if name == "folders" else _seeded_split(pack, seed, needs)
    if source == "omniglot" and name == "seeded":
        return _omniglot_seeded_split(pack, seed)
    # Files that do not name their classes, such as pickles with numbers for labels, say the split themselves.
    published = published_split(source)
    if pack.source.class_splits and not {*pack.class_names} & {one for names in published.values() for one in names}:
        return _recorded_split(pack, seed, {})
    return published


def published_split(source: str) -> dict[str, tuple[str, ...]]:
    """Return the published class lists of omniglot, cifar-fs, fc100 or mini-imagenet; see `class_split`."""
    if source == "omniglot":
        return _vinyals_split()
    if source == "fc100":
        return _fc100_split()
    return published_classes(source.replace("-", "_"))


def with_held_back(
    names: dict[str, tuple[str, ...]], num: int, *, num_needed: int, seed: int
) -> dict[str, tuple[str, ...]]:
    """Return a class split in which `num` classes of meta-train are a split of their own, "held-back".

    Args:
        names: from `class_split`.
        num: classes to hold back; 0 leaves the split as it is.
        num_needed: classes that meta-training must keep, those of a task.
        seed: draws the classes, in the same way on every machine.

    Raises:
        DataError: meta-train has too few classes for that.
    """
    if num == 0:
        return names
    train = names["train"]
    most = len(train) - num_needed
    if num > most:
        raise DataError(
            "tasks.held_back",
            expected=f"at most {max(most, 0)}",
            got=str(num),
            why=f"Meta-train has {len(train)} classes, and its tasks need {num_needed}",
            next_step="Hold fewer classes back (0 for none), or set smaller tasks.ways",
        )
    # The seed may have drawn meta-train itself: these words make the order another one.
    drawn = set(_shuffled(train, f"{seed}\x1f{HELD_BACK}")[:num])
    rest = tuple(name for name in train if name not in drawn)
    return {**names, "train": rest, HELD_BACK: tuple(sorted(drawn))}


def _split_name(source: str, pack: Pack, split_name: str | None) -> str:
    if source not in CLASS_SPLITS:
        raise DataError(
            "source",
            expected=f"one of {', '.join(CLASS_SPLITS)}",
            got=repr(source),
            why=nearest(source, CLASS_SPLITS).strip(),
        )
    names = CLASS_SPLITS[source]
    if split_name is None:
        return "seeded" if source == "folder" and "class_splits" not in pack.source.record else names[0]
    if split_name not in names:
        raise DataError(
            f"tasks.class_split ({source})",
            expected=f"one of {', '.join(names)}",
            got=repr(split_name),
            why=nearest(split_name, names).strip(),
        )
    return split_name


@functools.cache
def _shipped_text(name: str) -> str:
    return (resources.files("mamlcli.tasks.images") / "splits" / f"{name}.json").read_text("utf-8")


def published_classes(name: str) -> dict[str, tuple[str, ...]]:
    """Return a shipped list of classes by its file name, under "train", "validation" and "test"."""
    lists: dict[str, list[str]] = json.loads(_shipped_text(name))
    return {split: tuple(lists[split]) for split in SPLITS}


def _vinyals_split() -> dict[str, tuple[str, ...]]:
    """Expand the list, which holds the first and last character of each alphabet in a split."""
    ranges: dict[str, dict[str, list[int]]] = json.loads(_shipped_text("omniglot_vinyals"))
    return {
        split: tuple(
            f"{alphabet}/character{number:02d}"
            for alphabet, (first, last) in ranges[split].items()
            for number in range(first, last + 1)
        )
        for split in SPLITS
    }


def _fc100_split() -> dict[str, tuple[str, ...]]:
    """Expand the list, which holds superclasses, so that no superclass is in two splits."""
    members: dict[str, list[str]] = json.loads(_shipped_text("cifar100_superclasses"))
    return {
        split: tuple(sorted(name for superclass in superclasses for name in members[superclass]))
        for split, superclasses in published_classes("fc100").items()
    }


def _recorded_split(pack: Pack, seed: int, needs: Needs) -> dict[str, tuple[str, ...]]:
    recorded = pack.source.class_splits
    if recorded is None:
        raise DataError(
            "tasks.class_split=folders",
            expected="a pack made from folders named train, val and test",
            got="a pack without them",
            next_step="Set tasks.class_split=seeded, or import again from such folders",
        )
    names = {split: recorded.get(split, ()) for split in SPLITS}
    return names if names["validation"] or "validation" not in needs else _validation_of_train(pack, names, seed, needs)


def _validation_of_train(
    pack: Pack, names: dict[str, tuple[str, ...]], seed: int, needs: Needs
) -> dict[str, tuple[str, ...]]:
    """Return a split whose validation is a part of train, if train has enough classes for both.

    It is a fifth, as 16 of 64 + 16 classes are, drawn in the same way on every machine.
    """
    usable = _usable(pack, names["train"], needs)
    spare = len(usable) - needs["train"].num_classes
    num = max(needs["validation"].num_classes, min(spare, round(len(usable) / 5)))
    if num > spare:
        return names
    # The seed may have drawn something else from these classes: this word makes the order another one.
    drawn = set(_shuffled(usable, f"{seed}\x1fvalidation")[:num])
    rest = tuple(name for name in names["train"] if name not in drawn)
    return {**names, "train": rest, "validation": tuple(sorted(drawn))}


def _omniglot_seeded_split(pack: Pack, seed: int) -> dict[str, tuple[str, ...]]:
    if pack.num_classes != sum(_OMNIGLOT_SEEDED):
        raise DataError(
            "tasks.class_split=seeded (omniglot)",
            expected=f"all {sum(_OMNIGLOT_SEEDED)} characters in the pack",
            got=f"{pack.num_classes}",
            next_step="Import the folder above images_background and images_evaluation: "
            "mamlcli data import omniglot DIR",
        )
    return _cut(_shuffled(pack.class_names, seed), _OMNIGLOT_SEEDED)


def _seeded_split(pack: Pack, seed: int, needs: Needs | None) -> dict[str, tuple[str, ...]]:
    if pack.num_classes < len(SPLITS) and not needs:
        raise DataError(
            "tasks.class_split=seeded (folder)",
            expected="at least 3 classes, one for each split",
            got=f"{pack.num_classes}",
            next_step="Add class folders and import again: mamlcli data import folder DIR",
        )
    counts = dict(zip(pack.class_names, pack.class_counts().tolist(), strict=True))
    return split_by_seed(counts, seed, needs)


def split_by_seed(counts: Mapping[str, int], seed: int, needs: Needs | None) -> dict[str, tuple[str, ...]]:
    """Return class names drawn by a seed for each split, 64, 16 and 20 %, or so that each has what it needs.

    Args:
        counts: the number of examples of each class by its name.
        seed: draws the order.
        needs: of the splits that are used; where there are too few classes for them, the proportions hold.
    """
    names = _in_proportion(_shuffled(counts, seed))
    if not needs or all(len(_large(counts, names[split], need)) >= need.num_classes for split, need in needs.items()):
        return names
    usable = _large(counts, counts, Need(0, max(need.num_images for need in needs.values())))
    if len(usable) < sum(need.num_classes for need in needs.values()):
        return names
    return _cut(_shuffled(usable, seed), _fitted_sizes(len(usable), needs))


def usable_classes(pack: Pack, names: Iterable[str], need: Need) -> tuple[str, ...]:
    """Return those of the named classes that have as many images as a task needs of a class, or are not in the pack."""
    return _large(dict(zip(pack.class_names, pack.class_counts().tolist(), strict=True)), names, need)


def _large(counts: Mapping[str, int], names: Iterable[str], need: Need) -> tuple[str, ...]:
    return tuple(name for name in names if counts.get(name, need.num_images) >= need.num_images)


def _usable(pack: Pack, names: Iterable[str], needs: Needs) -> tuple[str, ...]:
    """Return those of the named classes that have images enough for every split."""
    return usable_classes(pack, names, Need(0, max(need.num_images for need in needs.values())))


def _in_proportion(names: list[str]) -> dict[str, tuple[str, ...]]:
    _, validation, test = (max(1, round(fraction * len(names))) for fraction in _FOLDER_FRACTIONS)
    return _cut(names, (max(0, len(names) - validation - test), validation, test))


def _fitted_sizes(total: int, needs: Needs) -> tuple[int, int, int]:
    """Return the numbers of classes of splits that have what they need, as near to 64, 16 and 20 % as they can be."""
    least = {split: needs[split].num_classes if split in needs else 0 for split in SPLITS}
    sizes = {
        split: max(least[split], round(fraction * total))
        for split, fraction in zip(SPLITS, _FOLDER_FRACTIONS, strict=True)
    }
    for split in ("validation", "test"):
        excess = least["train"] + sizes["validation"] + sizes["test"] - total
        sizes[split] -= min(max(0, excess), sizes[split] - least[split])
    return total - sizes["validation"] - sizes["test"], sizes["validation"], sizes["test"]


def _shuffled(names: Iterable[str], seed: int | str) -> list[str]:
    """Return the names in an order drawn by the seed.

    The order is that of a keyed hash of each name, so it is the same on every machine, for every version of
    every library, and in whatever order the pack holds its classes.
    """
    return sorted(names, key=lambda name: hashlib.blake2b(f"{seed}\x1f{name}".encode(), digest_size=16).digest())


def _cut(names: list[str], sizes: tuple[int, int, int]) -> dict[str, tuple[str, ...]]:
    train, validation, _ = sizes
    parts = names[:train], names[train : train + validation], names[train + validation :]
    return {split: tuple(sorted(part)) for split, part in zip(SPLITS, parts, strict=True)}
