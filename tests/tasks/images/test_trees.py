"""Folders of image files: which files are of which class, and how they are read; what is not taken is listed."""

import os

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.tree_reading import default_size, read_tree
from mamlcli.tasks.images.trees import class_folder_tree, mini_imagenet_tree, omniglot_tree
from tests.helpers.image_files import class_folders, drawing, noise, omniglot_folders, save


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def read(tree, *, size=12, channels=3, invert=False, progress=None):
    return read_tree(tree, size=size, channels=channels, invert=invert, fit="center-crop", progress=progress)


def reasons(tree):
    return {os.path.basename(file): reason for file, reason in tree.skipped}


# Which files are of which class --------------------------------------------------------------------------------


@pytest.mark.parametrize("above", ["", "omniglot-py"])
def test_omniglot_official_layout_joins_background_and_evaluation(root, above):
    omniglot_folders(root / above / "images_background", alphabets=["Greek"])
    omniglot_folders(root / above / "images_evaluation" / "images_evaluation", alphabets=["ULOG"])
    tree = omniglot_tree(root)
    assert tree.groups == {
        "Greek/character01": "Greek",
        "Greek/character02": "Greek",
        "ULOG/character01": "ULOG",
        "ULOG/character02": "ULOG",
    }
    assert {len(files) for files in tree.files.values()} == {3}


def test_mini_imagenet_is_found_below_train_val_and_test(root):
    class_folders(root / "train", ["n01532829"])
    class_folders(root / "val", ["n01855672"])
    class_folders(root / "test", ["n01930112", "n99999999"])
    tree = mini_imagenet_tree(root, wnids=frozenset({"n01532829", "n01855672", "n01930112"}))
    assert list(tree.files) == ["n01532829", "n01855672", "n01930112"]
    assert reasons(tree) == {"n99999999": "not a class of mini-ImageNet"}


def test_folders_named_as_splits_are_splits_and_others_are_classes(root):
    class_folders(root / "Training", ["b", "a"])
    class_folders(root / "valid", ["c"])
    class_folders(root / "meta-test", ["d"])
    assert class_folder_tree(root).class_splits == {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    class_folders(root, ["e"])
    tree = class_folder_tree(root)
    assert tree.class_splits is None
    assert list(tree.files) == ["Training", "e", "meta-test", "valid"]


def test_class_that_is_in_two_splits_is_refused(root):
    class_folders(root / "train", ["a", "b"])
    class_folders(root / "test", ["a"])
    with pytest.raises(DataError, match="no other split has, got 'a'"):
        class_folder_tree(root)


def test_links_that_loop_are_listed_and_not_followed(root):
    class_folders(root, ["a", "b"])
    (root / "a" / "loop").symlink_to(root)
    (root / "everything").symlink_to(root)
    tree = class_folder_tree(root)
    assert (tree.num_files, set(reasons(tree))) == (6, {"loop", "everything"})


def test_linked_image_files_are_taken(root):
    class_folders(root, ["a"])
    (root / "a" / "link.png").symlink_to(root / "a" / "00.png")
    assert class_folder_tree(root).num_files == 4


def test_named_pipe_is_listed_and_not_waited_for(root):
    class_folders(root, ["a"])
    os.mkfifo(root / "a" / "pipe.png")
    tree = class_folder_tree(root)
    assert tree.num_files == 3
    assert reasons(tree) == {"pipe.png": "no regular file, or a link to nothing"}


def test_images_in_folders_below_a_class_belong_to_it(root):
    class_folders(root, ["a"])
    path = save(root / "a" / "more" / "x.png", noise(12, 12, 3))
    assert path in class_folder_tree(root).files["a"]


def test_path_that_is_no_folder_is_refused(root):
    with pytest.raises(DataError, match="no such folder"):
        class_folder_tree(root / "missing")
    (root / "file").touch()
    with pytest.raises(DataError, match="got a file"):
        omniglot_tree(root / "file")


# How they are read ---------------------------------------------------------------------------------------------


def test_bad_files_are_listed_and_the_others_taken(root):
    class_folders(root, ["a", "b"])
    (root / "a" / "text.png").write_text("not a picture")
    (root / "a" / "empty.png").touch()
    (root / "a" / "notes.txt").write_text("notes")
    (root / "stray.png").write_bytes((root / "a" / "00.png").read_bytes())
    (root / "b" / "nowhere.png").symlink_to(root / "missing.png")
    (root / "b" / ".DS_Store").touch()
    tree = class_folder_tree(root)
    images = read(tree)
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert reasons(tree) == {
        "stray.png": "not in a class folder",
        "text.png": "a file of no known image format",
        "empty.png": "a file of no known image format",
        "notes.txt": "not an image by its name (.txt)",
        "nowhere.png": "no regular file, or a link to nothing",
    }


def test_labels_follow_the_classes_that_have_an_image(root):
    class_folders(root, ["a", "b", "c"])
    for path in (root / "b").iterdir():
        path.write_text("not a picture")
    tree = class_folder_tree(root)
    images = read(tree)
    assert images.class_names == ["a", "c"]
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(images.images[3], noise(12, 12, 3, seed=200))
    assert reasons(tree)["b"] == "a class without a usable image"


def test_folder_of_unreadable_images_is_refused(root):
    (root / "a").mkdir()
    (root / "a" / "1.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"none of 1.*1\.png: a file of no known image format"):
        read(class_folder_tree(root))


@pytest.mark.parametrize(("invert", "is_inverted"), [(None, True), (True, True), (False, False)])
def test_dark_ink_is_inverted_unless_asked_otherwise(root, invert, is_inverted):
    page = drawing(12)
    save(root / "a" / "0.png", page)
    images = read(class_folder_tree(root), channels=1, invert=invert)
    assert images.preprocessing.invert is is_inverted
    np.testing.assert_array_equal(images.images[0, :, :, 0], 255 - page if is_inverted else page)


def test_progress_counts_every_file(root):
    counts = []
    class_folders(root, ["a", "b"])
    read(class_folder_tree(root), progress=lambda *done_and_total: counts.append(done_and_total))
    assert counts == [(number, 6) for number in range(1, 7)]


def test_default_size_is_the_median_shorter_side_and_at_most_84(root):
    for index, shape in enumerate([(10, 30), (40, 20), (99, 50)]):
        save(root / "a" / f"{index}.png", noise(*shape))
    assert default_size(class_folder_tree(root)) == 20
    for index in range(3, 9):
        save(root / "a" / f"{index}.png", noise(200, 100))
    assert default_size(class_folder_tree(root)) == 84
