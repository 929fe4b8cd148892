"""Too few classes or images: the message names what works, and that it works is tried."""

import re

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.models import shipped_models
from mamlcli.tasks.images.packs import Pack, PackSource, save_pack
from mamlcli.training.shortage import shortage
from tests.helpers.image_files import class_folders, noise
from tests.helpers.running import built

SPLITS = ("train", "validation", "test")
AS_SHIPPED = ("validation.every=200", "tasks.queries=5")


def pack_of(tmp_path, counts, class_splits=None):
    """Write a pack with a class for each number of images and return its path."""
    names = tuple(f"class{index}" for index in range(len(counts)))
    labels = np.repeat(np.arange(len(counts)), counts)
    record = {"name": "folder", **({"class_splits": class_splits} if class_splits else {})}
    path = tmp_path / "own.npz"
    save_pack(Pack(noise(len(labels), 8, 8, 3), labels, names, source=PackSource(record)), path)
    return path


def error_of(path, *overrides, splits=SPLITS):
    with pytest.raises(DataError) as caught:
        built("folder", f"tasks.path={path}", *AS_SHIPPED, *overrides, splits=splits)
    return caught.value


def used(changes):
    """Return the splits that a run uses with some changes."""
    if "evaluation.split=train" in changes:
        return ("train",)
    return ("train", "test") if "validation.every=null" in changes else SPLITS


@pytest.mark.parametrize(
    ("counts", "changes"),
    [
        ([10] * 2, ("tasks.ways=2", "validation.every=null", "evaluation.split=train")),
        ([10] * 3, ("tasks.ways=3", "validation.every=null", "evaluation.split=train")),
        ([10] * 4, ("tasks.ways=2", "validation.every=null")),
        ([10] * 5, ("tasks.ways=2", "validation.every=null")),
        ([10] * 6, ("tasks.ways=2",)),
        ([10] * 9, ("tasks.ways=3",)),
        ([10] * 14, ("tasks.ways=4",)),
        ([4] * 15, ("tasks.queries=3",)),
        ([10] * 14 + [3], ("tasks.queries=2",)),
        ([2] * 6, ("tasks.ways=2", "tasks.queries=1")),
    ],
)
def test_changes_that_are_named_are_the_least_and_work(tmp_path, counts, changes):
    path = pack_of(tmp_path, counts)
    error = error_of(path)
    assert error.changes == changes
    assert f"set {' '.join(changes)}" in str(error)
    assert set(built("folder", f"tasks.path={path}", *AS_SHIPPED, *changes, splits=used(changes)).distributions) == set(
        used(changes)
    )


@pytest.mark.parametrize("counts", [[10], [1, 1, 1], [1, 1, 10]])
def test_where_nothing_works_nothing_is_named_but_what_is_missing(tmp_path, counts):
    error = error_of(pack_of(tmp_path, counts))
    assert error.changes == ()
    assert str(error).endswith("The smallest task has 2 classes of 2 images: add folders or images.")


def test_nothing_is_advised_that_was_given(tmp_path):
    path = pack_of(tmp_path, [10] * 3)
    error = error_of(path, "tasks.ways=2")
    assert not any(change.startswith("tasks.ways") for change in error.changes)
    assert re.search(
        r"expected 6 classes of at least 6 images each: 2 to train on, 2 others for validation, 2 others for",
        str(error),
    )


def test_keys_of_the_evaluation_are_made_smaller_with_those_of_the_tasks(tmp_path):
    path = pack_of(tmp_path, [4] * 9)
    given = ("evaluation.ways=4", "evaluation.queries=6")
    error = error_of(path, *given)
    assert error.changes == ("tasks.ways=3", "evaluation.ways=3", "tasks.queries=3", "evaluation.queries=3")
    assert built("folder", f"tasks.path={path}", *AS_SHIPPED, *given, *error.changes, splits=SPLITS).training.ways == 3


@pytest.mark.parametrize(
    ("nums", "changes"),
    [
        ((8, 3, 6), ("validation.every=null",)),
        ((8, 6, 0), ("evaluation.split=validation",)),
        ((8, 0, 6), ("validation.every=null",)),
        ((4, 4, 4), ("tasks.ways=4",)),
    ],
)
def test_of_folders_for_each_split_the_one_that_is_short_is_done_without(tmp_path, nums, changes):
    names = [f"class{index}" for index in range(sum(nums))]
    ends = np.cumsum(nums).tolist()
    parts = dict(zip(SPLITS, (names[: ends[0]], names[ends[0] : ends[1]], names[ends[1] :]), strict=True))
    path = pack_of(tmp_path, [10] * len(names), parts)
    error = error_of(path)
    assert error.changes == changes
    assert f"got {nums[0]} in train, {nums[1]} in validation, {nums[2]} in test" in str(error)


def test_few_classes_of_a_folder_are_told_of_the_model_that_needs_no_training(tmp_path):
    folder = class_folders(tmp_path / "my photos", ["cats", "dogs", "birds"], num_images=10)
    message = str(error_of(folder, "tasks.image_size=8"))
    assert "birds (10), cats (10), dogs (10)" in message
    assert f"mamlcli adapt cifar-fs-5way-5shot@1 --support '{folder}' --query '{folder}'" in message


@pytest.mark.parametrize("channels", [1, 3])
def test_models_that_are_named_ship_with_the_program(tmp_path, channels):
    class_folders(tmp_path, "ab", num_images=1)
    pack = Pack(noise(2, 8, 8, channels), np.arange(2), ("a", "b"))
    recipe = load_recipe("folder", [])[1]
    model = re.search(r"mamlcli adapt (\S+)", str(shortage(recipe, pack, str(tmp_path))))[1]
    assert model in shipped_models()
