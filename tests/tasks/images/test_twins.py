"""Classes that look alike in two splits are found, turned ones too, and no others."""

import numpy as np

from mamlcli.tasks.images.glyphs import load_glyphs
from mamlcli.tasks.images.packs import Pack
from mamlcli.tasks.images.twins import TWIN_CORRELATION, Twin, near_twins
from tests.helpers.image_files import noise

SPLITS = {"train": ("a", "b"), "validation": ("c",), "test": ("d",)}


def drawings(*, twin_of_a=None, channels=1):
    """Return a pack of four blurred shapes, three drawings each with noise; class d is a copy of `twin_of_a`."""
    rng = np.random.default_rng(0)
    shapes = np.kron(rng.uniform(0, 200, (4, 7, 7)), np.ones((4, 4)))
    if twin_of_a is not None:
        shapes[3] = np.rot90(shapes[0], twin_of_a)
    images = np.repeat(shapes, 3, axis=0) + rng.uniform(0, 50, (12, 28, 28))
    images = np.repeat(images[..., None], channels, axis=3).astype(np.uint8)
    return Pack(images, np.repeat(np.arange(4), 3), ("a", "b", "c", "d"))


def test_twins_are_found_upright_and_turned():
    for turns in range(4):
        (twin,) = near_twins(drawings(twin_of_a=turns), SPLITS)
        assert twin == Twin("d", "test", "a", "train", twin.correlation, turns)
        assert TWIN_CORRELATION < twin.correlation <= 1.0001


def test_other_drawings_and_twins_within_a_split_are_not_found():
    assert near_twins(drawings(), SPLITS) == []
    assert near_twins(drawings(twin_of_a=0), {"train": ("a", "b", "c", "d")}) == []
    assert near_twins(drawings(twin_of_a=0), {"train": ("b",), "test": ("d", "zebra")}) == []


def test_photographs_and_images_of_one_value_are_left_out():
    assert near_twins(drawings(twin_of_a=0, channels=3), SPLITS) == []
    assert near_twins(Pack(noise(12, 6, 6, 1) * 0, np.repeat(np.arange(4), 3), ("a", "b", "c", "d")), SPLITS) == []


def test_correlation_is_that_of_the_mean_drawings_shrunk():
    pack = drawings(twin_of_a=1)
    small = pack.images[..., 0].reshape(4, 3, 14, 2, 14, 2).mean(axis=(1, 3, 5))
    expected = np.corrcoef(small[3].ravel(), np.rot90(small[0]).ravel())[0, 1]
    assert abs(near_twins(pack, SPLITS)[0].correlation - expected) < 1e-5


def test_a_letter_that_is_another_with_a_stroke_is_found_among_the_glyphs():
    # L with two bars and L with one bar and a stroke, alike by eye.
    found = near_twins(load_glyphs(0), {"train": ["Latin/U+023D"], "test": ["Latin/U+2C60", "Greek/U+0394"]})
    assert [(twin.name, twin.quarter_turns) for twin in found] == [("Latin/U+2C60", 0)]
