"""Image files are opened within bounds, and whatever a decoder raises is one sentence."""

from __future__ import annotations

import os
import struct
import zlib

import pytest
from PIL import Image

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.decoding import opened_header, opened_image
from mamlcli.tasks.images.reading import image_size, open_image


def bomb(path, side, colour=2, depth=8):
    """Write a PNG whose header promises `side` times `side` pixels, with hardly any behind it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize(("colour", "depth", "side"), [(6, 8, 7000), (2, 8, 9000), (6, 16, 7000)])
def test_all_copies_of_a_picture_count_and_not_its_pixels_alone(tmp_path, colour, depth, side):
    with pytest.raises(DataError, match="bytes that unfold to"):
        open_image(bomb(tmp_path / "a.png", side, colour, depth), channels=3)


def test_a_blank_page_is_read(tmp_path):
    Image.new("L", (5000, 5000), 255).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png", channels=1).size == (5000, 5000)


@pytest.mark.parametrize(
    "error", [struct.error("x"), SyntaxError("x"), AttributeError("x"), AssertionError(), MemoryError()]
)
def test_whatever_a_decoder_raises_is_a_sentence(tmp_path, monkeypatch, error):
    Image.new("L", (5, 5)).save(tmp_path / "a.png")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(Image, "open", fail)
    for read in (image_size, lambda path: open_image(path, channels=1)):
        with pytest.raises(DataError, match=type(error).__name__):
            read(tmp_path / "a.png")


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    for name, words in (("a.png", "a pipe"), ("b.png", "a device")):
        for read in (image_size, lambda path: open_image(path, channels=1)):
            with pytest.raises(DataError, match=words):
                read(tmp_path / name)


def test_header_and_pixels_are_read_from_one_open_file(tmp_path):
    Image.new("L", (5, 4), 7).save(tmp_path / "a.png")
    with opened_header(tmp_path / "a.png", ["PNG"]) as image:
        assert image.size == (5, 4)
    with opened_image(tmp_path / "a.png", ["PNG"]) as image:
        assert image.getpixel((0, 0)) == 7
