"""Class splits: the published lists, and those drawn by a seed."""

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.common.names import CLASS_SPLITS, SPLITS
from mamlcli.tasks.images.class_splits import Need, class_split, usable_classes, with_held_back
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


# Few classes -----------------------------------------------------------------------------------------------


def needs_of(train, validation=0, test=0, *, images=1):
    nums = {"train": train, "validation": validation, "test": test}
    return {split: Need(num, images) for split, num in nums.items() if num}


@pytest.mark.parametrize(
    ("num_classes", "needs", "expected"),
    [
        (15, needs_of(5, 5, 5), (5, 5, 5)),
        (10, needs_of(5, test=5), (5, 0, 5)),
        (12, needs_of(5, test=5), (5, 2, 5)),
        (9, needs_of(2, 2, 2), (5, 2, 2)),
        (6, needs_of(2, 2, 2), (2, 2, 2)),
        (4, needs_of(2, test=2), (2, 0, 2)),
        (3, needs_of(3), (3, 0, 0)),
        (2, needs_of(2), (2, 0, 0)),
        (20, needs_of(15, 2, 2), (15, 2, 3)),  # in proportion it would be 13, 3, 4
    ],
)
def test_each_split_gets_what_it_needs_where_there_are_enough_classes_in_all(num_classes, needs, expected):
    splits = class_split("folder", pack_of(num_classes), needs=needs)
    assert sizes(splits) == expected
    assert len({name for part in splits.values() for name in part}) == num_classes


@pytest.mark.parametrize("needs", [needs_of(5, 5, 5), needs_of(5, test=5), needs_of(5), needs_of(9, 2, 2)])
@pytest.mark.parametrize("num_classes", range(3, 40))
def test_split_in_proportion_stays_as_it_is_wherever_it_is_enough_and_no_split_lacks_classes_that_are_there(
    num_classes, needs
):
    pack = pack_of(num_classes)
    plain, splits = (class_split("folder", pack, seed=7, needs=given) for given in (None, needs))
    is_enough = all(len(plain[split]) >= need.num_classes for split, need in needs.items())
    assert (splits == plain) or not is_enough
    if num_classes >= sum(need.num_classes for need in needs.values()):
        assert all(len(splits[split]) >= need.num_classes for split, need in needs.items())


def pack_with_counts(counts, **source):
    """Return a pack with a class for each number of images."""
    names = tuple(f"class{index:04d}" for index in range(len(counts)))
    labels = np.repeat(np.arange(len(counts)), counts)
    return Pack(np.zeros((len(labels), 1, 1, 1), dtype=np.uint8), labels, names, source=PackSource(source))


def test_small_class_is_in_no_split_where_the_large_ones_have_to_be_shared_out():
    splits = class_split("folder", pack_with_counts([6, 6, 1, 6, 6]), needs=needs_of(2, test=2, images=6))
    assert sorted(splits["train"] + splits["test"]) == ["class0000", "class0001", "class0003", "class0004"]
    assert sizes(splits) == (2, 0, 2)


def test_small_class_does_not_change_a_split_that_is_enough_without_it():
    counts = [6] * 30
    counts[3] = 1
    pack = pack_with_counts(counts)
    assert class_split("folder", pack, needs=needs_of(2, 2, 2, images=6)) == class_split("folder", pack)
    assert usable_classes(pack, pack.class_names[:5], Need(2, 6)) == tuple(pack.class_names[i] for i in (0, 1, 2, 4))


def recorded_pack(num_train=20, num_validation=0):
    names = [f"class{index:04d}" for index in range(num_train + num_validation + 5)]
    parts = {
        "train": names[:num_train],
        "validation": names[num_train : num_train + num_validation],
        "test": names[num_train + num_validation :],
    }
    return pack_of(len(names), class_splits=parts)


def test_folders_without_val_take_a_fifth_of_train_for_it_the_same_on_every_machine():
    pack = recorded_pack()
    plain, splits = (class_split("folder", pack, needs=needs) for needs in (None, needs_of(5, 3, 5)))
    assert (sizes(plain), sizes(splits)) == ((20, 0, 5), (16, 4, 5))
    assert sorted(splits["train"] + splits["validation"]) == list(plain["train"])
    # Written down once: the classes must not change, for runs rely on them.
    assert splits["validation"] == ("class0000", "class0005", "class0007", "class0014")


@pytest.mark.parametrize(
    ("num_train", "needs", "expected"),
    [
        (10, needs_of(5, 5, 5), (5, 5, 5)),
        (9, needs_of(5, 5, 5), (9, 0, 5)),  # not enough for both: the caller says so
        (20, needs_of(5, test=5), (20, 0, 5)),  # validation is not used
    ],
)
def test_validation_is_taken_of_train_where_it_is_used_and_can_be_spared(num_train, needs, expected):
    assert sizes(class_split("folder", recorded_pack(num_train), needs=needs)) == expected


def test_folder_val_that_is_there_is_validation_however_small_it_is():
    assert sizes(class_split("folder", recorded_pack(20, 1), needs=needs_of(5, 5, 5))) == (20, 1, 5)


def test_a_split_that_a_pack_lacks_is_refused_with_its_key_and_another_value():
    with pytest.raises(DataError) as ended:
        class_split("folder", pack_of(12), split_name="folders")
    assert str(ended.value).startswith("tasks.class_split=folders: expected a pack made from folders named train")
    assert "Set tasks.class_split=seeded" in str(ended.value)


def test_part_of_omniglot_has_no_seeded_split_and_the_key_is_named():
    with pytest.raises(DataError, match=r"^tasks\.class_split=seeded \(omniglot\): expected all 1623 characters"):
        class_split("omniglot", pack_of(12), split_name="seeded")
