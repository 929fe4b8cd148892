# ruff: noqa: RUF001 (letters that look alike are what these tests are about)
"""Shapes of letters: close for twins, far for others, measured in image pixels."""

from __future__ import annotations

import numpy as np
import pytest

from mamlcli.tasks.images.fonts import load_faces
from mamlcli.tasks.images.shapes import LETTER_PIXELS, letter_faces, letter_shape, shape_distances


@pytest.fixture(scope="module")
def sans():
    return load_faces()[0]


def test_longer_side_of_every_letter_is_the_same(sans):
    for char in "lmO":
        assert 2 * letter_shape(sans.font, char).half_size.max() == pytest.approx(LETTER_PIXELS)


def test_distance_is_negative_in_the_ink_and_positive_on_the_paper(sans):
    ring = letter_shape(sans.font, "O")
    # The centre of the ring, and the middle of its stroke on the right.
    points = np.array([[0.0, 0.0], [0.0, ring.half_size[1] - ring.half_pen]])
    in_the_middle, in_the_stroke = ring.sample(points)
    assert in_the_middle > 0 > in_the_stroke


def test_shape_distance_is_small_for_twins_and_large_for_others(sans):
    shapes = [letter_shape(sans.font, char) for char in ("O", "О", "o", "X")]
    distance = shape_distances(shapes[:1], shapes)[0]
    assert distance[:3].max() < 0.3
    assert distance[3] > 1.0


def test_shape_without_marks_leaves_out_the_dots(sans):
    dotted, bare = (letter_shape(sans.font, char, with_marks=False) for char in ("Ï", "I"))
    assert dotted.has_marks
    assert not bare.has_marks
    np.testing.assert_allclose(dotted.half_size, bare.half_size, atol=0.3)  # hinting: a font pixel or so


def test_shape_half_pen_is_that_of_a_bar(sans):
    # l is a rectangle: from its sides inwards, distances average a quarter of its width (and half a font
    # pixel, as they are taken to the first pixel outside).
    shape = letter_shape(sans.font, "l")
    assert shape.half_pen == pytest.approx(shape.half_size[1] + 0.5 / shape.scale, rel=0.15)


def test_space_has_no_shape(sans):
    assert letter_shape(sans.font, " ") is None


def test_first_face_always_stands():
    faces = load_faces()
    assert len(letter_faces("A", faces)) >= 1
    assert len(letter_faces("ꓮ", faces)) == 1  # only the sans face has Lisu
