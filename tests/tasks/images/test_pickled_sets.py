"""Image sets in pickles: each form in use gives its images, classes and splits."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.known_classes import numbered_classes
from mamlcli.tasks.images.pickled_sets import pickled_parts, read_pickled, split_of_file
from tests.helpers.image_files import noise, python2_pickle
from tests.helpers.layouts import cache, dump, labelled


def read(folder, **options):
    return read_pickled(pickled_parts(folder)[0], **options)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("mini-imagenet-cache-train.pkl", "train"),
        ("mini-imagenet-cache-val.pkl", "validation"),
        ("mini-imagenet-cache-validation.pkl", "validation"),
        ("mini-imagenet-cache-test.pkl", "test"),
        ("miniImageNet_category_split_train_phase_train.pickle", "train"),
        ("miniImageNet_category_split_val.pickle", "validation"),
        ("FC100_test.pickle", "test"),
        ("base.p", "train"),
        ("novel.pkl", "test"),
        ("images.pkl", None),
        ("train_and_test.pkl", None),
    ],
)
def test_the_name_of_a_file_says_its_split(tmp_path, name, split):
    assert split_of_file(tmp_path / name) == split


@pytest.mark.parametrize("is_of_python_2", [True, False])
def test_a_cache_gives_each_class_the_images_that_it_names(tmp_path, is_of_python_2):
    value = cache(["n02", "n01"], 6)
    (python2_pickle if is_of_python_2 else dump)(tmp_path / "x-train.pkl", value)
    found = read(tmp_path)
    assert found.class_names == ("n01", "n02")
    for name, numbers in value["class_dict"].items():
        images = found.images[found.labels == found.class_names.index(name)]
        np.testing.assert_array_equal(images, value["image_data"][numbers])
    assert found.class_splits is None, "one split alone leaves the classes to be drawn"
    assert (found.preprocessing.size, found.preprocessing.channels) == (6, 3)


def test_the_classes_of_several_files_are_joined_and_sorted(tmp_path):
    for split, names in {"test": ["a"], "train": ["c", "d"], "val": ["b"]}.items():
        dump(tmp_path / f"x-{split}.pkl", cache(names, 6))
    found = read(tmp_path)
    assert found.class_names == ("a", "b", "c", "d")
    assert found.class_splits == {"train": ["c", "d"], "validation": ["b"], "test": ["a"]}
    np.testing.assert_array_equal(found.images[found.labels == 0], cache(["a"], 6)["image_data"])
    np.testing.assert_array_equal(found.images[found.labels == 3], cache(["c", "d"], 6)["image_data"][1::2])


def test_other_images_of_the_meta_train_classes_are_left_out_with_the_reason(tmp_path):
    for file in ("train_phase_train", "train_phase_val", "train_phase_test", "val"):
        dump(tmp_path / f"x_{file}.pickle", cache(["a"], 6))
    parts, skipped = pickled_parts(tmp_path)
    assert [part.path.stem for part in parts] == ["x_train_phase_train", "x_val"]
    assert len(skipped) == 2
    assert "meta-train classes" in skipped[0][1]


def planes(images):
    return images.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (noise(3, 8, 8, 3), (8, 8, 3)),
        (planes(noise(3, 8, 8, 3)), (8, 8, 3)),
        (planes(noise(3, 32, 32, 3)).reshape(3, 3072), (32, 32, 3)),
        (noise(3, 28, 28), (28, 28, 1)),
        (list(noise(3, 8, 8, 3)), (8, 8, 3)),
    ],
    ids=["channels last", "channels first", "flat", "grey", "list"],
)
@pytest.mark.parametrize(
    "labels", [["b", "a", "b"], [1, 0, 1], np.array([1, 0, 1]), [np.int64(1), np.int64(0), np.int64(1)]]
)
def test_images_and_labels_are_read_in_every_form(tmp_path, data, shape, labels):
    dump(tmp_path / "x.pkl", {b"data": data, b"labels": labels, "label2catname": {0: "a", 1: "b"}})
    found = read(tmp_path)
    assert found.class_names == ("a", "b")
    assert found.labels.tolist() == [1, 0, 1]
    assert found.images.shape == (3, *shape)
    if shape[2] == 3:
        expected = noise(3, *shape)
        np.testing.assert_array_equal(found.images, expected)


def test_numbers_without_names_are_named_by_split_and_number_and_that_is_said(tmp_path):
    dump(tmp_path / "x_train.pickle", labelled([0, 12], 6))
    dump(tmp_path / "mine.pickle", labelled([3], 6))
    found = read(tmp_path)
    assert found.class_names == ("mine-03", "train-00", "train-12")
    assert found.notes == ["The files do not name their classes; they are called mine-03, train-00, train-12"]


def test_numbers_that_are_exactly_those_of_a_split_have_the_names_of_cifar_100(tmp_path):
    numbered = numbered_classes("fc100")
    assert numbered["train"][70] == "rose"
    assert numbered["test"][2] == "baby"
    dump(tmp_path / "FC100_test.pickle", labelled(sorted(numbered["test"]), 6))
    assert set(read(tmp_path, numbered=numbered).class_names) == set(numbered["test"].values())
    dump(tmp_path / "FC100_val.pickle", labelled([60, 61], 6))
    assert "test-02" in read(tmp_path, numbered=numbered).class_names, "one file that does not fit is enough"


def test_images_of_no_class_are_left_out_with_their_number(tmp_path):
    value = cache(["a", "b"], 6)
    del value["class_dict"]["b"]
    dump(tmp_path / "x.pkl", value)
    found = read(tmp_path)
    assert len(found.images) == 3
    assert found.skipped[0][1] == "3 images that are of no class"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1], "got list"),
        ({}, "a dictionary of nothing"),
        ({"image_data": noise(2, 4, 4, 3)}, "a dictionary of image_data"),
        ({"data": noise(2, 4, 4, 3), "labels": [0]}, "2 labels"),
        ({"data": noise(2, 4, 4, 3), "labels": [0, 0.5]}, "whole numbers or names"),
        ({"data": noise(2, 4, 4, 3) / 255, "labels": [0, 1]}, "uint8"),
        ({"data": noise(2, 4, 4, 4), "labels": [0, 1]}, "1 or 3"),
        ({"data": noise(0, 4, 4, 3), "labels": []}, "1 or 3"),
        ({"data": [noise(4, 4, 3), noise(5, 5, 3)], "labels": [0, 1]}, "images of one size"),
        ({"image_data": noise(2, 4, 4, 3), "class_dict": {"a": [0, 2]}}, "numbers from 0 to 1"),
        ({"image_data": noise(2, 4, 4, 3), "class_dict": {"a": [0, -1]}}, "numbers from 0 to 1"),
        ({"image_data": noise(2, 4, 4, 3), "class_dict": {"a": [0], "b": [0, 1]}}, "images of one class"),
        ({"image_data": noise(2, 4, 4, 3), "class_dict": {}}, "for each class"),
    ],
)
def test_anything_else_is_refused_and_named(tmp_path, value, expected):
    dump(tmp_path / "x.pkl", value)
    with pytest.raises(DataError, match=expected):
        read(tmp_path)


def test_a_class_in_two_splits_and_images_of_two_sizes_are_refused(tmp_path):
    dump(tmp_path / "train.pkl", cache(["a"], 6))
    dump(tmp_path / "test.pkl", cache(["a"], 6))
    with pytest.raises(DataError, match="no other split"):
        read(tmp_path)
    dump(tmp_path / "test.pkl", cache(["b"], 7))
    with pytest.raises(DataError, match="as in the other files"):
        read(tmp_path)


def test_progress_counts_the_files(tmp_path):
    for split in ("train", "test"):
        dump(tmp_path / f"{split}.pkl", cache([split], 6))
    seen = []
    read(tmp_path, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the most memory of a process")
def test_beside_the_set_one_part_more_is_in_memory(tmp_path):
    """Of 100 MB in parts of 60, 20 and 20 the peak is 160 MB, where a copy of the whole set makes it 200 MB."""
    for split, num in {"train": 60, "val": 20, "test": 20}.items():
        images = np.zeros((num, 1000, 1000, 1), np.uint8)
        dump(tmp_path / f"{split}.pkl", {"image_data": images, "class_dict": {split: list(range(num))}})
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mamlcli.tasks.images.pickled_sets import pickled_parts, read_pickled\n"
        "def most_kb(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "parts, before = pickled_parts(Path(sys.argv[1]))[0], most_kb()\n"
        "print(len(read_pickled(parts).images), most_kb() - before)\n"
    )
    done = run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    num, peak = map(int, done.stdout.split())
    assert num == 100
    assert 100e3 < peak * 1.024 < 180e3
