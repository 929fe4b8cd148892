"""What is known of the classes of published sources: their names, their numbers in CIFAR-100, their superclasses."""

from __future__ import annotations

import functools
import json
from importlib import resources

from mamlcli.common.names import SPLITS
from mamlcli.tasks.images.class_splits import published_split

CIFAR_SOURCES = ("cifar-fs", "fc100")
PUBLISHED_SOURCES = ("omniglot", *CIFAR_SOURCES, "mini-imagenet")


@functools.cache
def known_names(source: str) -> frozenset[str]:
    """Return the class names of a source that has published splits; none for the others."""
    if source not in PUBLISHED_SOURCES:
        return frozenset()
    return frozenset(name for names in published_split(source).values() for name in names)


def numbered_classes(source: str) -> dict[str, dict[int, str]]:
    """Return the classes of each split by their number in CIFAR-100, the place among its sorted fine names; else {}."""
    if source not in CIFAR_SOURCES:
        return {}
    numbers = {name: number for number, name in enumerate(sorted(known_names(source)))}
    return {split: {numbers[name]: name for name in names} for split, names in published_split(source).items()}


@functools.cache
def known_groups(source: str) -> dict[str, str]:
    """Return the superclass of every class of CIFAR-100 for its sources; {} for the others."""
    if source not in CIFAR_SOURCES:
        return {}
    text = (resources.files("mamlcli.tasks.images") / "splits" / "cifar100_superclasses.json").read_text("utf-8")
    members: dict[str, list[str]] = json.loads(text)
    return {name: superclass for superclass, names in members.items() for name in names}


def classes_by_split(source: str, names: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Return for each published split how many of its classes are among the names, and how many it has.

    A source without published splits has none here.
    """
    if source not in PUBLISHED_SOURCES:
        return {}
    there = set(names)
    split = published_split(source)
    return {part: (len(there.intersection(split[part])), len(split[part])) for part in SPLITS}
