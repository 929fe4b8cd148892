"""Classes of the splits of a recipe: small ones left out or refused, the split of a trained run kept."""

import numpy as np
import pytest
import torch

from mamlcli.common.errors import DataError
from mamlcli.recipe.files import load_recipe
from mamlcli.tasks.images.class_splits import Need, class_split
from mamlcli.tasks.images.packs import Pack, PackSource
from mamlcli.training.class_needs import class_record, classes_of_splits, lacks_classes, large_classes, needs_of
from mamlcli.training.data import build_tasks
from tests.helpers.image_files import class_folders, noise
from tests.helpers.running import built


def pack_of(counts):
    names = tuple(f"class{index}" for index in range(len(counts)))
    labels = np.repeat(np.arange(len(counts)), counts)
    return Pack(noise(len(labels), 8, 8, 3), labels, names, source=PackSource({"name": "folder"}))


def recipe_of(*overrides):
    return load_recipe("folder", overrides)[1]


def test_needs_are_those_of_the_splits_that_a_recipe_uses():
    assert needs_of(recipe_of()) == dict.fromkeys(("train", "validation", "test"), Need(5, 6))
    overrides = ("validation.every=null", "tasks.rotations=true", "evaluation.ways=3", "evaluation.shots=4")
    assert needs_of(recipe_of(*overrides)) == {"train": Need(2, 6), "test": Need(1, 9)}
    assert needs_of(recipe_of("tasks.held_back=7")) == {"train": Need(12, 6), "test": Need(5, 6)}
    assert needs_of(recipe_of("evaluation.split=train", "validation.every=null")) == {"train": Need(5, 6)}


def test_small_classes_are_left_out_and_noted_with_their_numbers():
    recipe, pack = recipe_of("tasks.ways=2"), pack_of([10] * 5 + [2, 1] + [10] * 5)
    names = classes_of_splits(recipe, pack)
    assert not lacks_classes(recipe, pack, ("train", "validation", "test"))
    assert class_record(recipe, pack, names)["left_out"] == {"class5": 2, "class6": 1}
    for split in ("validation", "test"):
        assert not {"class5", "class6"} & set(large_classes(recipe.scored_tasks, pack, names[split], where=""))


def test_small_classes_are_refused_where_the_recipe_says_so(tmp_path):
    folder = class_folders(tmp_path, "abcdef", num_images=6)
    for number in (2, 3, 4, 5):
        (folder / "c" / f"{number:02d}.png").unlink()
    keys = (f"tasks.path={folder}", "tasks.ways=2", "tasks.queries=5", "tasks.image_size=8", "validation.every=200")
    splits = ("train", "validation", "test")
    with pytest.raises(
        DataError, match=r"tasks\.small_classes .*at least 6 images of each class, got 2 of 'c'.*leave-out"
    ):
        built("folder", *keys, "tasks.small_classes=refuse", splits=splits)
    message = r"expected 6 classes of at least 6 images each.*got 6.*c \(2\)"
    with pytest.raises(DataError, match=message):
        built("folder", *keys, splits=splits)
    assert built("folder", *keys, "tasks.queries=1", splits=splits).data["left_out"] == {}


def test_classes_of_other_sources_are_never_left_out():
    tasks = load_recipe("cifar-fs-5way-5shot", [])[1].tasks
    assert large_classes(tasks, pack_of([1, 10]), ("class0", "class1"), where="") == ("class0", "class1")


def test_run_is_scored_by_other_protocols_on_the_split_that_it_was_trained_with(tmp_path):
    folder = class_folders(tmp_path, "abcd", num_images=6)
    keys = (f"tasks.path={folder}", "tasks.image_size=8", "validation.every=null", "inner.head=zero")
    trained_by = recipe_of(*keys, "tasks.ways=3", "evaluation.split=train")
    places = {"device": torch.device("cpu"), "dtype": torch.float32}
    scored = recipe_of(*keys, "tasks.ways=3", "evaluation.ways=2", "evaluation.split=test")
    with pytest.raises(DataError, match=r"test split\): expected 2 classes, got 1"):
        build_tasks(scored, splits=("test",), trained_by=trained_by, **places)


def test_split_of_published_lists_takes_no_notice_of_needs():
    pack = pack_of([1])
    assert class_split("cifar-fs", pack, needs={"train": Need(70, 1)}) == class_split("cifar-fs", pack)
