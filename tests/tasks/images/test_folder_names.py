"""What the names of folders mean: splits in the words of the field, wrappers, masks, parts of a class."""

import pytest

from mamlcli.tasks.images.folder_names import are_no_classes, is_beside, is_part, is_plain, split_meant


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ("train Training base meta_train metatrain images_background TRAIN-SET trainval", "train"),
        ("val valid Validation dev meta-val valset", "validation"),
        ("test novel meta_test images_evaluation eval test-split", "test"),
        ("cat contest trains testudo baseball images meta set", None),
    ],
)
def test_split_that_a_name_means(names, split):
    assert {name: split_meant(name) for name in names.split()} == dict.fromkeys(names.split(), split)


def test_names_that_say_nothing_are_known_from_those_of_classes():
    assert all(map(is_plain, ("images", "Data", "JPEGImages")))
    assert not any(map(is_plain, ("cat", "imago", "images_of_cats")))


def test_names_of_what_lies_beside_images():
    assert all(map(is_beside, ("segmentations", "Masks", "annotations", "trainval")))
    assert not any(map(is_beside, ("cat", "train")))


@pytest.mark.parametrize("name", ["left", "Right_2", "batch-1", "2021-05-03", "2020", "session 3", "images", "train"])
def test_names_of_parts_of_a_class(name):
    assert is_part(name)


@pytest.mark.parametrize("name", ["cat", "character01", "01", "leftover", "n01532829", "obs1"])
def test_names_that_may_be_classes_are_no_parts(name):
    assert not is_part(name)


def test_images_and_masks_are_no_classes_but_masks_and_parts_may_be():
    assert are_no_classes(["images"])
    assert are_no_classes(["images", "annotations"])
    assert not are_no_classes(["masks", "parts"])
    assert not are_no_classes(["images", "cat"])
    assert not are_no_classes([])
