"""Class splits: the published lists, and those drawn by a seed."""

import re

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.common.names import CLASS_SPLITS, SPLITS
from mamlcli.tasks.images.class_splits import class_split, folder_needs, with_held_back
from mamlcli.tasks.images.packs import Pack, PackSource


def pack_of(num_classes, **source):
    names = tuple(f"class{index:04d}" for index in range(num_classes))
    images = np.zeros((num_classes, 1, 1, 1), dtype=np.uint8)
    return Pack(images, np.arange(num_classes), names, source=PackSource(source))


def sizes(splits):
    return tuple(len(splits[split]) for split in SPLITS)


# The sizes are those of the papers named in `class_split`.
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("omniglot", (1028, 172, 423)),
        ("cifar-fs", (64, 16, 20)),
        ("fc100", (60, 20, 20)),
        ("mini-imagenet", (64, 16, 20)),
    ],
)
def test_published_split_has_the_published_sizes(source, expected):
    assert sizes(class_split(source, pack_of(1))) == expected


@pytest.mark.parametrize("source", ["omniglot", "cifar-fs", "fc100", "mini-imagenet"])
def test_published_splits_share_no_class(source):
    names = [name for part in class_split(source, pack_of(1)).values() for name in part]
    assert len(set(names)) == len(names)


def test_published_lists_hold_what_the_papers_list():
    assert class_split("omniglot", pack_of(1))["test"][0] == "Gurmukhi/character42"
    assert "baby" in class_split("cifar-fs", pack_of(1))["test"]
    assert "n01532829" in class_split("mini-imagenet", pack_of(1))["train"]


def test_cifar_fs_and_fc100_split_the_same_hundred_classes():
    names = [
        sorted(name for part in class_split(source, pack_of(1)).values() for name in part)
        for source in ("cifar-fs", "fc100")
    ]
    assert names[0] == names[1]


def test_fc100_keeps_a_superclass_in_one_split():
    people = {"baby", "boy", "girl", "man", "woman"}
    assert people <= set(class_split("fc100", pack_of(1))["test"])


def test_published_split_is_not_cut_down_to_the_pack():
    assert "apple" in class_split("cifar-fs", pack_of(2))["train"]


def test_seeded_omniglot_has_1200_100_and_323_characters():
    splits = class_split("omniglot", pack_of(1623), split_name="seeded", seed=3)
    assert sizes(splits) == (1200, 100, 323)
    assert len({name for part in splits.values() for name in part}) == 1623


def test_seeded_omniglot_needs_all_characters():
    with pytest.raises(DataError, match="1623 characters"):
        class_split("omniglot", pack_of(119), split_name="seeded")


@pytest.mark.parametrize(("num_classes", "expected"), [(100, (64, 16, 20)), (5, (3, 1, 1)), (3, (1, 1, 1))])
def test_seeded_folder_is_split_64_16_20_with_a_class_for_each(num_classes, expected):
    splits = class_split("folder", pack_of(num_classes))
    assert sizes(splits) == expected
    assert len({name for part in splits.values() for name in part}) == num_classes


def test_folder_with_two_classes_cannot_be_split():
    with pytest.raises(DataError, match="at least 3 classes"):
        class_split("folder", pack_of(2))


def test_seed_decides_the_split_and_the_order_of_the_pack_does_not():
    pack = pack_of(50)
    backwards = Pack(pack.images, pack.labels, pack.class_names[::-1])
    assert class_split("folder", pack, seed=1) == class_split("folder", backwards, seed=1)
    assert class_split("folder", pack, seed=1) != class_split("folder", pack, seed=2)


def test_seeded_split_never_changes():
    # Golden, what this call gave when seeded splits were introduced: users' runs rely on it.
    assert class_split("folder", pack_of(10), seed=0)["test"] == ("class0000", "class0008")


def test_folder_split_is_the_recorded_one_where_the_folders_said_so():
    recorded = {"train": ["class0000"], "validation": [], "test": ["class0001"]}
    splits = class_split("folder", pack_of(2, class_splits=recorded))
    assert splits == {"train": ("class0000",), "validation": (), "test": ("class0001",)}


def test_recorded_split_can_be_overruled_by_name():
    pack = pack_of(10, class_splits={"train": ["class0000"]})
    assert sizes(class_split("folder", pack, split_name="seeded")) == (6, 2, 2)


def test_folder_split_by_folders_needs_such_folders():
    with pytest.raises(DataError, match="train, val and test"):
        class_split("folder", pack_of(5), split_name="folders")


def test_unknown_source_and_split_are_refused_with_the_nearest_name():
    with pytest.raises(DataError, match="Did you mean 'omniglot'"):
        class_split("omniglott", pack_of(1))
    with pytest.raises(DataError, match="Did you mean 'vinyals'"):
        class_split("omniglot", pack_of(1), split_name="vinyal")


@pytest.mark.parametrize("source", [name for name in CLASS_SPLITS if name != "glyphs"])
def test_first_split_name_is_the_default(source):
    pack = pack_of(3, class_splits={"train": ["class0000"], "validation": [], "test": []})
    assert class_split(source, pack) == class_split(source, pack, split_name=CLASS_SPLITS[source][0])


# Classes held back -----------------------------------------------------------------------------------------


def held_back(num=10, *, num_needed=5, seed=0):
    return with_held_back(class_split("cifar-fs", pack_of(1)), num, num_needed=num_needed, seed=seed)


def test_classes_held_back_are_taken_out_of_meta_train_and_nothing_else_changes():
    published, split = class_split("cifar-fs", pack_of(1)), held_back(10)
    assert len(split["held-back"]) == 10
    assert sorted(split["train"] + split["held-back"]) == sorted(published["train"])
    assert list(split["train"]) == [name for name in published["train"] if name in split["train"]]
    assert (split["validation"], split["test"]) == (published["validation"], published["test"])
    assert held_back(0) == published


def test_seed_draws_the_classes_that_are_held_back_and_more_of_them_are_the_same_and_others():
    assert held_back(seed=0) == held_back(seed=0)
    assert held_back(seed=0)["held-back"] != held_back(seed=1)["held-back"]
    assert set(held_back(10)["held-back"]) < set(held_back(20)["held-back"])


def test_classes_held_back_are_the_same_on_every_machine():
    # Written down once; `with_held_back(class_split("cifar-fs", ...), 3, num_needed=5, seed=0)` gives them again.
    assert held_back(3)["held-back"] == ("cloud", "snake", "tulip")


@pytest.mark.parametrize(("num", "most"), [(60, 59), (64, 59), (1000, 59)])
def test_more_classes_held_back_than_meta_train_can_spare_are_refused_with_the_numbers(num, most):
    with pytest.raises(DataError, match=rf"tasks\.held_back: expected at most {most}, got {num}.*64 classes.*need 5"):
        held_back(num)
    assert len(held_back(most)["train"]) == 5


@pytest.mark.parametrize("ways", [2, 3, 5, 20])
def test_so_many_classes_as_a_folder_is_said_to_need_are_enough_and_one_less_is_not(ways):
    needed = int(re.search(r"or (\d+) in all", folder_needs(ways))[1])
    smallest = [min(sizes(class_split("folder", pack_of(num)))) for num in (needed, needed - 1)]
    assert smallest[0] >= ways > smallest[1]


def test_a_class_that_is_turned_counts_four_times():
    assert folder_needs(5, rotations=True).startswith("Each split that is used needs 2 classes")
