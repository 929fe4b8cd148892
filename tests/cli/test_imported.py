"""What an import says: its classes, their splits, and a command that trains."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

from mamlcli.cli.imported import RECIPES, first_names, splits_in_words, train_command
from mamlcli.common.files import data_dir
from mamlcli.recipe.files import load_recipe
from mamlcli.tasks.images.class_splits import class_split, published_split
from mamlcli.tasks.images.packs import Pack, PackSource, save_pack
from mamlcli.tasks.images.reading import Preprocessing
from mamlcli.tasks.images.sources import IMPORTABLE, ImportReport
from tests.helpers.image_files import noise

SMALL = ["outer.iterations=1", "outer.tasks=1", "validation.tasks=1", "evaluation.tasks=2", "model.width=2"]


def pack_of(source, names, num_images=20, splits=None):
    labels = np.repeat(np.arange(len(names)), num_images)
    record = {"name": source, **({"class_splits": splits} if splits else {})}
    return Pack(noise(len(labels), 16, 16, 3), labels, tuple(names), None, PackSource(record))


def suggested(pack, name=None):
    path = data_dir() / f"{name or pack.source.name}.npz"
    save_pack(pack, path)
    command = train_command(ImportReport(path, pack, Preprocessing(16, 3), ()))
    assert command is None or shlex.split(command)[:2] == ["mamlcli", "train"]
    return command and [word.replace(str(path), "PACK") for word in shlex.split(command)[2:]]


def published(source, *splits):
    return sorted(name for split in splits for name in published_split(source)[split])


def test_every_published_source_has_a_recipe_of_its_own():
    assert set(RECIPES) == set(IMPORTABLE) - {"folder"}
    assert {source: load_recipe(recipe)[1].tasks.source for source, recipe in RECIPES.items()} == {
        source: source for source in RECIPES
    }


@pytest.mark.parametrize(
    ("splits", "changes"),
    [
        (("train", "validation", "test"), []),
        (("train", "validation"), ["evaluation.split=validation"]),
        (("train", "test"), ["tasks.held_back=16"]),
    ],
)
def test_a_source_is_trained_by_its_recipe_and_scored_on_what_is_there(splits, changes):
    pack = pack_of("mini-imagenet", published("mini-imagenet", *splits))
    assert suggested(pack) == ["mini-imagenet-5way-1shot", *changes]
    assert suggested(pack, "mine") == ["mini-imagenet-5way-1shot", "tasks.path=PACK", *changes]


@pytest.mark.parametrize("splits", [("train",), ("validation", "test")])
def test_classes_of_one_split_or_without_meta_train_are_split_by_a_seed(splits):
    pack = pack_of("mini-imagenet", published("mini-imagenet", *splits))
    assert suggested(pack) == ["folder", "tasks.path=PACK"]


def test_pickles_that_name_no_classes_are_trained_by_the_splits_of_the_files():
    splits = {split: [f"{split}-{number:02d}" for number in range(6)] for split in ("train", "validation", "test")}
    pack = pack_of("fc100", [name for names in splits.values() for name in names], splits=splits)
    assert class_split("fc100", pack)["test"] == tuple(splits["test"])
    assert suggested(pack) == ["fc100-5way-5shot"]
    assert splits_in_words(pack) == "train 6, validation 6, test 6 (as the files say)"


@pytest.mark.parametrize(
    ("num_classes", "num_images", "changes"),
    [
        (40, 20, []),
        (40, 3, ["tasks.queries=2"]),
        (10, 20, ["tasks.ways=3"]),
        (8, 20, ["tasks.ways=2"]),
    ],
)
def test_few_classes_and_images_make_smaller_tasks(num_classes, num_images, changes):
    pack = pack_of("folder", [f"class{number:02d}" for number in range(num_classes)], num_images)
    assert suggested(pack, "mine") == ["folder", "tasks.path=PACK", *changes]


def test_too_little_for_any_task_has_no_command():
    assert suggested(pack_of("folder", ["a"]), "mine") is None
    assert suggested(pack_of("folder", ["a", "b"], 1), "mine") is None


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("mini-imagenet", published_split("mini-imagenet")["train"][:8]),
        ("mini-imagenet", published("mini-imagenet", "train")),
        ("mini-imagenet", published("mini-imagenet", "train", "validation")),
        ("mini-imagenet", published("mini-imagenet", "train", "test")),
        ("folder", [f"class{number}" for number in range(10)]),
    ],
    ids=["eight classes of mini-ImageNet", "meta-train", "without meta-test", "without validation", "ten classes"],
)
def test_the_command_trains(source, names, cli):
    pack = pack_of(source, sorted(names))
    path = data_dir() / "mine.npz"
    save_pack(pack, path)
    command = train_command(ImportReport(path, pack, Preprocessing(16, 3), ()))
    done = cli(*shlex.split(command)[1:], *SMALL, "model.depth=2", "inner.steps=1", "evaluation.steps=1")
    assert done.code == 0, done.err


def test_names_and_splits_are_said_in_a_line():
    pack = pack_of("cifar-fs", ["apple", "baby", "bear\n", "x", "y", "z"], 1)
    assert first_names(pack) == "apple, baby, bear\\n, x, y, ..."
    assert splits_in_words(pack) == "train 1 of 64, validation 0 of 16, test 1 of 20 (the published lists)"
    assert splits_in_words(pack_of("folder", ["a"])) == "none in the files; a seed draws them (tasks.split_seed)"
