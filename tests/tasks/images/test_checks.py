"""Checks of a pack find what they are for, and nothing in a sound pack."""

import numpy as np

from mamlcli.tasks.images.checks import check_pack
from mamlcli.tasks.images.packs import Pack
from tests.helpers.image_files import noise

SPLITS = {"train": ("a", "b"), "validation": ("c",), "test": ("d",)}


def sound_pack(images=None, labels=None):
    images = noise(12, 6, 6, 1) if images is None else images
    labels = np.repeat(np.arange(4), 3) if labels is None else labels
    return Pack(images, labels, ("a", "b", "c", "d"))


def found(pack, splits=SPLITS):
    return [(finding.severity, finding.check) for finding in check_pack(pack, splits)]


def message(pack, check, splits=SPLITS):
    return next(finding.message for finding in check_pack(pack, splits) if finding.check == check)


def test_sound_pack_has_its_counts_noted_and_nothing_else():
    assert found(sound_pack()) == [("note", "class counts")]
    assert message(sound_pack(), "class counts") == "12 images of 4 classes, 3 each"


def test_pack_without_splits_is_checked_alone():
    assert found(sound_pack(), {}) == [("note", "class counts")]


def test_wrong_arrays_are_errors_and_end_the_check():
    assert found(sound_pack(images=noise(12, 6, 6))) == [("error", "arrays")]
    assert found(sound_pack(labels=np.zeros(3, np.int64))) == [("error", "arrays")]
    assert found(sound_pack(labels=np.full(12, 4))) == [("error", "arrays")]


def test_images_that_are_not_square_are_noted():
    assert ("note", "arrays") in found(sound_pack(images=noise(12, 6, 5, 1)))


def test_class_with_a_single_image_is_an_error_of_its_split_only():
    pack = sound_pack(labels=np.array([0] * 4 + [1] * 4 + [2] * 3 + [3]))
    assert ("error", "class counts") in found(pack)
    assert "test: 1 classes" in message(pack, "class counts")
    assert found(pack, {"train": SPLITS["train"]}) == [("note", "class counts")]


def test_classes_that_the_pack_lacks_are_named():
    splits = SPLITS | {"test": ("d", "zebra")}
    assert ("error", "missing classes") in found(sound_pack(), splits)
    assert message(sound_pack(), "missing classes", splits).endswith("not in the pack: zebra")


def test_many_missing_classes_are_counted():
    splits = {"train": tuple(f"x{index:02d}" for index in range(40))}
    assert message(sound_pack(), "missing classes", splits).endswith("x06, x07 and 32 more")


def test_empty_split_is_an_error():
    assert ("error", "empty split") in found(sound_pack(), SPLITS | {"validation": ()})


def test_class_in_two_splits_is_an_error():
    splits = SPLITS | {"test": ("d", "a")}
    assert message(sound_pack(), "overlap", splits) == "test and train share 1 classes: a"


def test_classes_in_no_split_are_noted():
    splits = {"train": ("a",), "test": ("b",)}
    assert message(sound_pack(), "unused classes", splits) == "2 in no split: c, d"


def test_constant_images_are_a_warning():
    images = noise(12, 6, 6, 1)
    images[7] = 3
    assert found(sound_pack(images)) == [("warning", "constant images"), ("note", "class counts")]
    assert message(sound_pack(images), "constant images") == "1 of a single value: c (image 7)"


def test_image_in_two_splits_is_a_warning():
    images = noise(12, 6, 6, 1)
    images[11] = images[0]
    assert ("warning", "duplicate images") in found(sound_pack(images))
    assert message(sound_pack(images), "duplicate images") == (
        "1 images are in two splits: a (train, image 0) = d (test, image 11). Remove one of each, or results on one "
        "split are partly on images of another"
    )


def test_image_in_two_published_splits_is_said_to_stay_there():
    images = noise(12, 6, 6, 1)
    images[11] = images[6] = images[0]
    [finding] = [f for f in check_pack(sound_pack(images), SPLITS, is_published=True) if f.check == "duplicate images"]
    assert finding.severity == "warning"
    assert finding.message == (
        "1 images are in two splits: a (train, image 0) = c (validation, image 6) = d (test, image 11). They are left "
        "where the published split has them, so that results compare with others'"
    )


def test_every_image_that_is_there_twice_is_listed_for_machines_however_many_there_are():
    images = np.concatenate([noise(60, 6, 6, 1)] * 2)  # class a again as c, b as d
    finding = check_pack(Pack(images, np.repeat(np.arange(4), 30), ("a", "b", "c", "d")), SPLITS)[0]
    assert "and 52 more" in finding.message
    same = finding.to_json()["same"]
    assert len(same) == 60
    assert same[31] == [
        {"image": 31, "class_name": "b", "split": "train"},
        {"image": 91, "class_name": "d", "split": "test"},
    ]
    assert "same" not in check_pack(sound_pack(), SPLITS)[0].to_json()


def test_class_in_no_split_that_is_checked_has_none():
    images = noise(12, 6, 6, 1)
    images[11] = images[0]
    assert message(sound_pack(images), "duplicate images", {"train": ("a",)}) == (
        "1 images are in two classes: a (train, image 0) = d (image 11)"
    )


def test_image_in_two_classes_of_a_split_is_noted():
    images = noise(12, 6, 6, 1)
    images[3] = images[0]
    assert ("note", "duplicate images") in found(sound_pack(images))
    assert message(sound_pack(images), "duplicate images") == (
        "1 images are in two classes: a (train, image 0) = b (train, image 3)"
    )


def test_image_twice_in_a_class_is_noted():
    images = noise(12, 6, 6, 1)
    images[1] = images[2] = images[0]
    assert message(sound_pack(images), "duplicate images") == "2 repeat another image of their class"


def test_errors_come_first():
    images = noise(12, 6, 6, 1)
    images[0] = 0
    severities = [severity for severity, _ in found(sound_pack(images), SPLITS | {"test": ("zebra",)})]
    assert severities == ["error", "warning", "note", "note"]


def test_classes_that_look_alike_in_two_splits_are_noted():
    shapes = np.random.default_rng(0).integers(0, 256, (4, 14, 14, 1), dtype=np.uint8)
    shapes[:, [0, 0, -1, -1], [0, -1, 0, -1]] = 0
    shapes[3], shapes[2] = shapes[0], np.rot90(shapes[1])
    images = np.repeat(shapes, 3, axis=0)
    images[:, 0, 0, 0] = np.arange(12)  # no two are the same byte for byte
    messages = [item.message for item in check_pack(sound_pack(images), SPLITS) if item.check == "near-twins"]
    assert messages == [
        "test: 1 of 1 classes look like one of another split (mean drawings correlate above 0.92): d ~ a (train, 1.00)",
        "validation: 1 of 1 classes look, turned, like one of another split (mean drawings correlate above 0.92): "
        "c ~ b (train, 1.00)",
    ]
