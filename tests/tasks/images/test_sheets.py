"""Contact sheets show every image of an episode where it belongs."""

import numpy as np
import pytest
from PIL import Image

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.packs import Pack
from mamlcli.tasks.images.sheets import (
    PredictedImage,
    contact_sheet,
    draw_episode,
    prediction_sheet,
    save_sheet,
)
from tests.helpers.image_files import noise


@pytest.fixture
def pack():
    return Pack(noise(20, 6, 6, 1), np.repeat(np.arange(4), 5), ("a", "b", "c", "d"))


def flat_images(ways, rows, side, values):
    images = np.empty((ways, rows, side, side, 3), np.uint8)
    images[:] = np.array(values, np.uint8).reshape(ways, rows, 1, 1, 1)
    return images


def test_support_and_query_of_a_class_share_no_image(pack):
    support, query, names = draw_episode(pack, ("a", "b", "d"), ways=2, shots=2, queries=3, seed=0)
    assert support.shape == (2, 2, 6, 6, 1)
    assert query.shape == (2, 3, 6, 6, 1)
    for column, name in enumerate(names):
        of_class = {image.tobytes() for image in pack.images[pack.labels == pack.class_names.index(name)]}
        drawn = [image.tobytes() for image in (*support[column], *query[column])]
        assert len(set(drawn)) == 5
        assert set(drawn) <= of_class


def test_seed_decides_the_episode(pack):
    first, again, other = (
        draw_episode(pack, pack.class_names, ways=3, shots=1, queries=1, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], again[0])
    assert first[2] != other[2] or not np.array_equal(first[0], other[0])


def test_more_ways_than_classes_are_refused(pack):
    with pytest.raises(DataError, match="at most the 2 classes"):
        draw_episode(pack, ("a", "b"), ways=3, shots=1, queries=1, seed=0)


def test_more_images_than_a_class_has_are_refused(pack):
    with pytest.raises(DataError, match="at least 6 images"):
        draw_episode(pack, pack.class_names, ways=2, shots=1, queries=5, seed=0)


def test_small_images_are_enlarged_without_smoothing_in_their_place():
    support, query = flat_images(2, 1, 4, [11, 22]), flat_images(2, 2, 4, [33, 44, 55, 66])
    sheet = np.asarray(contact_sheet(support, query, ["a", "b"]))
    places = {}
    for value in (11, 22, 33, 44, 55, 66):
        rows, columns = np.nonzero((sheet == value).all(axis=2))
        assert len(rows) >= 84 * 84
        # The smoothed text has a few such pixels too, too few to move a median by as much as a gap.
        places[value] = (round(np.median(rows), -1), round(np.median(columns), -1))
    assert places[11][1] == places[33][1] == places[44][1] < places[22][1] == places[55][1]
    assert places[11][0] == places[22][0] < places[33][0] < places[44][0]


def test_large_images_are_shown_as_they_are():
    sheet = contact_sheet(noise(2, 1, 200, 200, 3), noise(2, 1, 200, 200, 3), ["a", "b"])
    assert 400 < sheet.width < 600


def test_grey_images_and_no_query_make_a_sheet():
    sheet = contact_sheet(noise(3, 2, 28, 28, 1), noise(3, 0, 28, 28, 1), ["x/1", "x/2", "y"])
    assert sheet.mode == "RGB"


def test_long_class_names_stay_in_their_column():
    names = ["a" * 200, "b"]
    short = contact_sheet(noise(2, 1, 28, 28, 1), noise(2, 1, 28, 28, 1), ["a", "b"])
    long = contact_sheet(noise(2, 1, 28, 28, 1), noise(2, 1, 28, 28, 1), names)
    assert long.size == short.size


def test_sheet_is_saved_as_png(tmp_path):
    save_sheet(Image.new("RGB", (3, 2)), tmp_path / "new" / "sheet.png")
    with Image.open(tmp_path / "new" / "sheet.png") as image:
        assert (image.format, image.size) == ("PNG", (3, 2))


def test_sheet_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="--out"):
        save_sheet(Image.new("RGB", (3, 2)), tmp_path / "file" / "sheet.png")


def test_prediction_sheet_counts_what_it_does_not_show():
    support = [np.full((shots, 84, 84, 3), 9, np.uint8) for shots in (1, 3)]
    query = [[PredictedImage(support[0][0], 0.5, is_right=True)] * 30, []]
    sheet = prediction_sheet(support, query, ["a", "a name so long that it takes three lines and more"])
    # Three support rows and twelve query rows; a cell is an image, two frames and a gap.
    assert sheet.height > 15 * (84 + 6 + 4)
    assert sheet.height < 18 * (84 + 6 + 4) + 12 * 20
    pixels = np.asarray(sheet)
    assert (pixels == 9).all(axis=-1).sum() >= (1 + 3 + 12) * 84 * 84


def test_wrong_predictions_are_framed_otherwise_than_right_ones():
    image = np.zeros((84, 84, 3), np.uint8)

    def colours(is_right):
        sheet = prediction_sheet([image[None]] * 2, [[PredictedImage(image, 1.0, is_right)], []], ["a", "b"])
        return {tuple(pixel) for pixel in np.asarray(sheet).reshape(-1, 3).tolist()}

    right, wrong = (0, 158, 115), (213, 94, 0)
    assert right in colours(True) - colours(False) - colours(None)
    assert wrong in colours(False) - colours(True) - colours(None)


def test_class_names_with_line_ends_are_drawn_in_one_line():
    support, query = noise(2, 1, 28, 28, 1), noise(2, 1, 28, 28, 1)
    assert contact_sheet(support, query, ["a\nb", "c\td/e\r"]).size == contact_sheet(support, query, ["a", "c/e"]).size
    columns = [[PredictedImage(images[0], 0.5)] for images in query]
    sheet = prediction_sheet(list(support), columns, ["a\nb", "c\td/e\r"])
    assert sheet.size == prediction_sheet(list(support), columns, ["a", "b"]).size


def test_a_sheet_replaces_a_link_and_is_not_written_through_it(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "sheet.png").symlink_to(tmp_path / "mine")
    save_sheet(Image.new("RGB", (2, 2)), tmp_path / "sheet.png")
    assert (tmp_path / "mine").read_text() == "mine"
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (2, 2)
