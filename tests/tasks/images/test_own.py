"""A user's own images: which files they are, and how they become arrays like those of a run."""

import unicodedata

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.ink import ImageRecord
from mamlcli.tasks.images.own import find_query, find_support, read_own_images
from mamlcli.tasks.images.reading import Preprocessing
from tests.helpers.image_files import class_folders, drawing, noise, save

PHOTOGRAPHS = ImageRecord(Preprocessing(12, 3), border=120.0)
# White on black, as Omniglot is seen by a network.
DRAWINGS = ImageRecord(Preprocessing(20, 1, invert=True), border=0.0, extent=0.6)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mine"


def drawings(root, pages):
    """Write pages as files of one folder and find them as a query set."""
    for index, page in enumerate(pages):
        save(root / f"{index}.png", page)
    return find_query(root)


def test_support_is_the_class_folders_and_no_loose_file(root):
    class_folders(root, ["b", "a"], num_images=2)
    loose = save(root / "loose.png", noise(5, 5))
    (root / "empty").mkdir()
    files = find_support(root)
    assert files.class_names == ("a", "a", "b", "b")
    assert [path.name for path in files.paths] == ["00.png", "01.png"] * 2
    assert set(files.skipped) == {(str(loose), "not in a class folder"), (str(root / "empty"), "no image in it")}


def test_query_is_loose_files_of_no_class_and_class_folders(root):
    class_folders(root, ["a"], num_images=1)
    save(root / "loose.png", noise(5, 5))
    files = find_query(root)
    assert [path.name for path in files.paths] == ["loose.png", "00.png"]
    assert files.class_names == (None, "a")


def test_query_may_be_one_file_of_any_name(root):
    path = save(root / "a.png", noise(5, 5)).rename(root / "a.dat")
    files = find_query(path)
    assert (files.paths, files.class_names) == ((path,), (None,))


def test_class_name_is_the_composed_form_of_its_folder(root):
    name = "caf\u00e9"
    class_folders(root, [unicodedata.normalize("NFD", name)], num_images=1)
    assert find_support(root).class_names == (name,)


def test_places_that_are_not_there_are_refused(root):
    with pytest.raises(DataError, match=r"--support .*got no such folder"):
        find_support(root)
    with pytest.raises(DataError, match=r"--query .*got no such file or folder"):
        find_query(root)
    with pytest.raises(DataError, match=r"--support .*got a file"):
        find_support(save(root / "a.png", noise(5, 5)))


def test_photographs_are_read_as_the_runs_own_were(root):
    array = noise(12, 12, 3)
    path = save(root / "a.png", array)
    images = read_own_images(find_query(path), PHOTOGRAPHS, invert="auto")
    np.testing.assert_array_equal(images.images, array[None])
    assert (images.is_inverted, images.inversion, images.extent) == (False, "as in training", None)
    inverted = read_own_images(find_query(path), PHOTOGRAPHS, invert="yes")
    np.testing.assert_array_equal(inverted.images, 255 - array[None])
    assert (inverted.is_inverted, inverted.inversion) == (True, "as asked")


def test_drawings_are_turned_to_the_ground_of_training_and_the_odd_one_is_named(root):
    pages = [drawing(seed=seed) for seed in range(4)]
    pages[2] = 255 - pages[2]
    images = read_own_images(drawings(root, pages), DRAWINGS, invert="auto")
    np.testing.assert_array_equal(images.images[0, :, :, 0], 255 - pages[0])
    assert images.is_inverted
    assert images.inversion == "bright ground here, dark ground in training"
    assert [path.name for path in images.odd] == ["2.png"]


def test_inversion_can_be_refused(root):
    page = drawing()
    images = read_own_images(drawings(root, [page]), DRAWINGS, invert="no")
    np.testing.assert_array_equal(images.images[0, :, :, 0], page)
    assert (images.is_inverted, images.inversion) == (False, "as asked")


def test_small_drawing_is_as_large_as_those_of_training_when_its_ink_is_cut_out(root):
    page = np.full((200, 200), 255, np.uint8)
    page[20:60, 30:50] = 0
    files = drawings(root, [page])
    assert read_own_images(files, DRAWINGS, invert="auto").extent == pytest.approx(40 / 200)
    cut_out = read_own_images(files, DRAWINGS, invert="auto", frame="ink")
    # One of 20 pixels: where the edge of the ink falls between two pixels.
    assert cut_out.extent == pytest.approx(DRAWINGS.extent, abs=1 / 20)


def test_ink_is_cut_out_for_runs_of_drawings_alone(root):
    files = drawings(root, [drawing()])
    with pytest.raises(DataError, match="not trained on drawings"):
        read_own_images(files, PHOTOGRAPHS, invert="auto", frame="ink")
    with pytest.raises(DataError, match="one of file, ink"):
        read_own_images(files, DRAWINGS, invert="auto", frame="page")


def test_file_that_cannot_be_read_is_listed_and_the_others_keep_their_class(root):
    class_folders(root, ["a", "b"], num_images=2)
    (root / "a" / "01.png").write_text("no picture")
    counts = []
    images = read_own_images(
        find_support(root), PHOTOGRAPHS, invert="auto", progress=lambda *done_and_total: counts.append(done_and_total)
    )
    assert images.class_names == ("a", "b", "b")
    assert [path.parent.name for path in images.paths] == ["a", "b", "b"]
    np.testing.assert_array_equal(images.images[1], noise(12, 12, 3, seed=100))
    assert images.skipped == [(str(root / "a" / "01.png"), "a file of no known image format")]
    assert counts == [(1, 4), (2, 4), (3, 4), (4, 4)]
