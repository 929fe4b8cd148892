"""Ink of drawings: where it is, how large, and when a user's images must be inverted to look like a run's."""

import json

import numpy as np
import pytest

from mamlcli.tasks.images.ink import (
    ImageRecord,
    grounds_are_bright,
    image_record,
    ink_boxes,
    ink_extent,
    ink_is_dark,
    read_ink,
)
from mamlcli.tasks.images.packs import Pack, PackSource
from mamlcli.tasks.images.reading import Preprocessing
from tests.helpers.image_files import drawing, noise, save


def test_ink_is_dark_on_white_paper_only():
    pages = np.stack([drawing(seed=seed) for seed in range(3)])[..., None]
    assert ink_is_dark(pages)
    assert not ink_is_dark(255 - pages)
    assert not ink_is_dark(noise(3, 20, 20, 1))
    assert not ink_is_dark(np.repeat(pages, 3, axis=3))


def white_on_black_pack(**source):
    pages = 255 - np.stack([drawing(seed=seed) for seed in range(3)])[..., None]
    return Pack(pages, np.array([0, 1, 2]), ("a", "b", "c"), source=PackSource(source))


@pytest.mark.parametrize("source", [{}, {"preprocessing": "words"}, {"preprocessing": {"invert": True}}])
def test_users_drawings_are_turned_to_the_ground_of_the_pack(source):
    page = drawing(20, seed=7)[None, :, :, None]
    record = image_record(white_on_black_pack(**source))
    assert record.is_of_drawings
    assert record.preprocessing.size == 20
    assert record.must_invert(page)
    assert not record.must_invert(255 - page)


def test_grey_paper_with_dark_ink_is_bright_ground():
    page = drawing(20, seed=7)[None, :, :, None].astype(float)
    photograph = (50 + page / 255 * 100).astype(np.uint8)
    assert grounds_are_bright(photograph).tolist() == [True]
    assert grounds_are_bright(255 - photograph).tolist() == [False]
    assert grounds_are_bright(np.full((1, 4, 4, 1), 255, np.uint8)).tolist() == [True]


def test_users_photographs_are_inverted_only_if_the_packs_were():
    for invert in (False, True):
        pack = Pack(
            noise(3, 20, 20, 1),
            np.arange(3),
            ("a", "b", "c"),
            source=PackSource({"preprocessing": {"invert": invert, "fit": "stretch"}}),
        )
        record = image_record(pack)
        assert record.preprocessing == Preprocessing(20, 1, invert=invert, fit="stretch")
        assert record.must_invert(noise(2, 20, 20, 1)) == invert
        assert record.extent is None


def test_record_survives_as_primitives():
    for pack in (white_on_black_pack(), Pack(noise(1, 5, 5, 3), np.array([0]), ("a",))):
        record = image_record(pack)
        assert ImageRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_pack_that_is_not_square_has_no_record():
    assert image_record(Pack(noise(1, 4, 5, 3), np.array([0]), ("a",))) is None


def test_ink_box_is_what_differs_from_the_ground():
    page = np.full((1, 20, 20, 1), 255, np.uint8)
    page[0, 3:9, 5:17] = 10
    assert ink_boxes(page).tolist() == [[3, 9, 5, 17]]
    assert ink_boxes(255 - page).tolist() == [[3, 9, 5, 17]]
    assert ink_extent(page) == 12 / 20
    assert np.isnan(ink_boxes(np.full((1, 5, 5, 1), 200, np.uint8))).all()


def test_ink_is_cut_out_in_the_middle_at_the_size_asked(tmp_path):
    page = np.full((200, 300), 255, np.uint8)
    page[10:60, 200:300] = 0  # at the edge: the page must go on
    image = read_ink(save(tmp_path / "a.png", page), Preprocessing(40, 1), extent=0.5)
    assert image.shape == (40, 40, 1)
    top, bottom, left, right = ink_boxes(image[None])[0]
    assert (bottom - top, right - left) == (10, 20)
    assert abs(top + bottom - 40) <= 2
    assert abs(left + right - 40) <= 2


def test_blank_page_is_read_as_it_is(tmp_path):
    page = save(tmp_path / "a.png", np.full((50, 80), 200, np.uint8))
    np.testing.assert_array_equal(read_ink(page, Preprocessing(20, 1), extent=0.5), np.full((20, 20, 1), 200))


def test_record_of_other_values_is_refused():
    values = image_record(white_on_black_pack()).to_dict()
    for wrong in ({"border": None}, {"extent": "large"}, {"size": "20"}, {"invert": 1}, {"more": 1}):
        with pytest.raises(TypeError):
            ImageRecord.from_dict(values | wrong)
