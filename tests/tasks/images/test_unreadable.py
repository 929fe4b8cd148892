"""Files that are no image that can be read: what they are, and what to do about them."""

import sys
import types

import pytest
from PIL import Image

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.reading import IMAGE_SUFFIXES, read_image
from mamlcli.tasks.images.unreadable import OTHER_SUFFIXES, reads_heif, register_optional_formats
from tests.helpers.image_files import noise, save

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def what_was_got(path):
    with pytest.raises(DataError) as caught:
        read_image(path, size=8, channels=3, invert=False)
    return caught.value.got


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jpg", b"", "an empty file"),
        ("raw.NEF", b"II*\0", "a raw camera file"),
        ("drawing.svg", b"<svg>", "convert it to PNG"),
        ("named-wrongly.png", b"\xef\xbb\xbf <svg>", "convert it to PNG"),
        ("page.jpg", b"<!DOCTYPE html>", "a web page"),
        ("pointer.png", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("image.jxl", b"\xff\x0a", "JPEG XL"),
        ("image.jpg", b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
        ("image.psd", b"8BPS", "Photoshop"),
    ],
)
def test_file_of_another_kind_is_named_with_what_to_do(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in what_was_got(tmp_path / name)


@pytest.mark.skipif(reads_heif(), reason="pillow-heif is installed")
@pytest.mark.parametrize("name", ["photo.HEIC", "photo.jpg"])
def test_photograph_of_a_telephone_says_what_to_install_whatever_it_is_called(tmp_path, name):
    (tmp_path / name).write_bytes(HEIC)
    assert what_was_got(tmp_path / name).endswith("pip install pillow-heif")


def test_raw_file_is_not_read_even_where_pillow_could_read_the_thumbnail_in_it(tmp_path):
    path = save(tmp_path / "a.tif", noise(8, 8, 3)).rename(tmp_path / "a.dng")
    assert "raw camera file" in what_was_got(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "jp2"])
def test_damaged_file_of_a_format_that_is_read_is_not_called_another(tmp_path, suffix):
    content = save(tmp_path / f"whole.{suffix}", noise(40, 40, 3)).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: len(content) // 2])
    got = what_was_got(path)
    assert "install" not in got
    assert "convert" not in got


def test_such_files_are_looked_at_like_images_so_that_they_are_told_of(tmp_path):
    assert set(OTHER_SUFFIXES) < IMAGE_SUFFIXES


def test_heif_is_read_where_the_package_is_installed(tmp_path, monkeypatch):
    calls = []
    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = lambda: calls.append("registered")
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    register_optional_formats.cache_clear()
    monkeypatch.setitem(Image.OPEN, "HEIF", (None, None))
    try:
        assert reads_heif()
        assert reads_heif()
    finally:
        register_optional_formats.cache_clear()
    assert calls == ["registered"]
