"""What is known of the classes of published sources."""

from __future__ import annotations

import pytest

from mamlcli.tasks.images.known_classes import classes_by_split, known_groups, known_names, numbered_classes


@pytest.mark.parametrize(
    ("source", "num", "one"),
    [("omniglot", 1623, "Greek/character01"), ("cifar-fs", 100, "apple"), ("fc100", 100, "rose"), ("folder", 0, None)],
)
def test_sources_have_as_many_classes_as_are_published(source, num, one):
    assert len(known_names(source)) == num
    assert one is None or one in known_names(source)


def test_numbers_are_those_of_cifar_100_and_parted_as_published():
    numbered = numbered_classes("fc100")
    assert {split: len(of_split) for split, of_split in numbered.items()} == {"train": 60, "validation": 20, "test": 20}
    assert {number for of_split in numbered.values() for number in of_split} == set(range(100))
    # https://www.cs.toronto.edu/~kriz/cifar.html: fine label 0 is apple, 99 is worm.
    assert {**numbered["train"], **numbered["test"], **numbered["validation"]}[0] == "apple"
    assert {**numbered["train"], **numbered["test"], **numbered["validation"]}[99] == "worm"
    assert numbered_classes("mini-imagenet") == {}


def test_every_class_of_cifar_100_has_one_of_twenty_superclasses():
    groups = known_groups("cifar-fs")
    assert set(groups) == known_names("cifar-fs")
    assert len(set(groups.values())) == 20
    assert known_groups("omniglot") == {}


def test_classes_are_counted_by_published_split():
    assert classes_by_split("cifar-fs", ("apple", "baby", "zebra")) == {
        "train": (1, 64),
        "validation": (0, 16),
        "test": (1, 20),
    }
    assert classes_by_split("folder", ("apple",)) == {}
