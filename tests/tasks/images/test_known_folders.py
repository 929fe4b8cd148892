"""Class folders of CIFAR-100 by their names."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.known_classes import known_names
from mamlcli.tasks.images.known_folders import cifar_class_tree
from tests.helpers.image_files import class_folders

NAMES = known_names("cifar-fs")


def tree(root):
    return cifar_class_tree(root, NAMES, expected="class folders")


@pytest.mark.parametrize("above", [".", "data", "cifar100/data", "a/b/c/d"])
def test_class_folders_are_found_at_any_depth(tmp_path, above):
    class_folders(tmp_path / above, ["apple", "zebra", "bear"])
    found = tree(tmp_path)
    assert list(found.files) == ["apple", "bear"]
    assert [(path.rpartition("/")[2], reason) for path, reason in found.skipped] == [
        ("zebra", "not a class of CIFAR-100")
    ]


def test_train_is_a_class_where_it_holds_images_and_a_split_where_it_holds_classes(tmp_path):
    class_folders(tmp_path / "flat", ["train", "apple"])
    assert list(tree(tmp_path / "flat").files) == ["apple", "train"]
    class_folders(tmp_path / "split" / "train", ["train", "apple"])
    class_folders(tmp_path / "split" / "test", ["bear"])
    found = tree(tmp_path / "split")
    assert {name: len(files) for name, files in found.files.items()} == {"apple": 3, "bear": 3, "train": 3}


def test_two_copies_of_a_class_are_refused_and_two_parts_of_it_joined(tmp_path):
    class_folders(tmp_path / "train", ["apple"])
    class_folders(tmp_path / "test", ["apple"])
    assert len(tree(tmp_path).files["apple"]) == 6
    class_folders(tmp_path / "copy", ["apple"])
    with pytest.raises(DataError, match="two of apple"):
        tree(tmp_path)


def test_nothing_there_is_said(tmp_path):
    class_folders(tmp_path, ["zebra"])
    with pytest.raises(DataError, match="expected class folders, got no class folder of its"):
        tree(tmp_path)
