"""16-bit files: those that use 10, 12 or 14 of their bits are scaled by these, all others as ever."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mamlcli.tasks.images.deep import FULL, bits_in_words
from mamlcli.tasks.images.ink import ImageRecord
from mamlcli.tasks.images.own import find_query, read_own_images
from mamlcli.tasks.images.reading import Preprocessing, deep_white, read_image
from mamlcli.tasks.images.tree_reading import read_tree
from mamlcli.tasks.images.trees import class_folder_tree
from tests.helpers.image_files import noise, save


def deep(largest, *shape, seed=0):
    """Return random 16-bit values from 0 to `largest`, both of which are there."""
    values = np.random.default_rng(seed).integers(0, largest + 1, size=shape or (8, 8)).astype(np.uint16)
    values.flat[0], values.flat[1] = 0, largest
    return values


def save_colours(path, values, *, orientation=None):
    """Write 16-bit colours as PNG, which Pillow itself cannot write; the orientation goes into EXIF data."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation or 1
    parts = [(b"IHDR", head), (b"eXIf", exif.tobytes()[6:]), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


@pytest.mark.parametrize(
    ("largest", "white"),
    [(200, 255), (256, 1023), (1023, 1023), (4000, 4095), (4095, 4095), (16383, 16383), (16384, FULL), (65535, FULL)],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_white_is_the_least_number_of_bits_into_which_all_values_fit(tmp_path, largest, white, suffix):
    paths = [save(tmp_path / f"{number}.{suffix}", deep(num)) for number, num in enumerate((largest, 3, largest // 2))]
    assert deep_white(paths) == white


def test_grey_values_of_12_bits_become_8_bits_of_the_whole_range(tmp_path):
    values = np.array([[0, 4095], [2048, 8]], dtype=np.uint16)
    path = save(tmp_path / "a.png", values)
    image = read_image(path, size=2, channels=1, invert=False, white=deep_white([path]))
    # 255 * 2048 / 4095 = 127.53, 255 * 8 / 4095 = 0.498
    assert image[..., 0].tolist() == [[0, 255], [128, 0]]


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_12_bits_keep_the_bits_that_pillow_drops(tmp_path, channels):
    values = deep(4095, 6, 6, channels)
    values[..., 3:] = 4095  # opaque
    path = save_colours(tmp_path / "a.png", values)
    image = read_image(path, size=6, channels=3, invert=False, white=deep_white([path]))
    assert deep_white([path]) == 4095
    assert np.array_equal(image, np.round(255.0 * values[..., :3] / 4095).astype(np.uint8))


def test_colours_of_12_bits_are_turned_upright(tmp_path):
    values = deep(4095, 6, 6, 3)
    path = save_colours(tmp_path / "a.png", values, orientation=3)
    image = read_image(path, size=6, channels=3, invert=False, white=4095)
    assert np.array_equal(image, np.round(255.0 * values[::-1, ::-1] / 4095).astype(np.uint8))


def test_full_16_bits_are_read_as_ever(tmp_path):
    grey, colours = deep(65535), deep(65535, 8, 8, 3)
    paths = [save(tmp_path / "a.png", grey), save_colours(tmp_path / "b.png", colours)]
    white = deep_white(paths)
    images = [
        read_image(path, size=8, channels=num, invert=False, white=white)
        for path, num in zip(paths, (1, 3), strict=True)
    ]
    assert np.array_equal(images[0][..., 0], (grey.astype(int) + 128) // 257)
    assert np.array_equal(images[1], colours >> 8)


def test_files_of_8_bits_and_files_that_cannot_be_read_have_no_say(tmp_path):
    paths = [save(tmp_path / "a.png", noise(8, 8, 3)), save(tmp_path / "b.jpg", noise(8, 8)), tmp_path / "nothing.png"]
    (tmp_path / "c.tif").write_bytes(b"II*\0")
    Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)).save(tmp_path / "d.tif")
    Image.fromarray(np.full((4, 4), 70000, dtype=np.int32)).save(tmp_path / "e.tif")
    assert deep_white([*paths, *(tmp_path / f"{name}.tif" for name in "cde")]) == FULL
    assert deep_white([*paths, save(tmp_path / "f.png", deep(1000))]) == 1023


def test_white_is_decided_once_for_all_images_of_a_set_and_noted(tmp_path):
    for name, largest in (("dark", 500), ("bright", 4095)):
        save(tmp_path / name / "1.png", deep(largest))
    read = read_tree(class_folder_tree(tmp_path), size=8, channels=1, invert=False, fit="center-crop")
    assert read.preprocessing.white == 4095
    assert [int(image.max()) for image in read.images] == [255, 31]  # bright, then dark: 255 * 500 / 4095 = 31.1
    assert Preprocessing.from_dict(read.preprocessing.to_dict()) == read.preprocessing
    assert "12 bits: 4095 is taken as white" in bits_in_words(4095)


def test_record_of_other_images_is_as_it_was():
    assert "white" not in Preprocessing(8, 1).to_dict()
    assert Preprocessing.from_dict({"size": 8, "channels": 1}).white == FULL


@pytest.mark.parametrize(
    ("of_the_run", "before", "largest", "white"),
    [(FULL, FULL, 4000, 4095), (4095, FULL, 900, 4095), (4095, FULL, 60000, FULL), (FULL, 4095, 900, 4095)],
)
def test_own_images_are_scaled_as_those_of_the_run_and_of_the_support_set(tmp_path, of_the_run, before, largest, white):
    path = save(tmp_path / "a.png", deep(largest))
    record = ImageRecord(Preprocessing(8, 1, white=of_the_run), 0.0)
    assert read_own_images(find_query(path), record, invert="no", white=before).white == white
