"""Trees of image files become arrays; a file that cannot be read is listed, and its class keeps the others."""

import os

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.tree_reading import default_size, read_tree
from mamlcli.tasks.images.trees import class_folder_tree
from tests.helpers.image_files import class_folders, drawing, noise, save


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def read(tree, *, size=12, channels=3, invert=False, progress=None):
    return read_tree(tree, size=size, channels=channels, invert=invert, fit="center-crop", progress=progress)


def reasons(tree):
    return {os.path.basename(file): reason for file, reason in tree.skipped}


def test_bad_files_are_listed_and_the_others_taken(root):
    class_folders(root, ["a", "b"])
    (root / "a" / "text.png").write_text("not a picture")
    (root / "a" / "empty.png").touch()
    (root / "a" / "notes.txt").write_text("notes")
    (root / "stray.png").write_bytes((root / "a" / "00.png").read_bytes())
    (root / "b" / "nowhere.png").symlink_to(root / "missing.png")
    tree = class_folder_tree(root)
    images = read(tree)
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert reasons(tree) == {
        "stray.png": "not in a class folder",
        "text.png": "a file of no known image format",
        "empty.png": "an empty file",
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
