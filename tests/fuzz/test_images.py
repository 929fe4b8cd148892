"""Image files of strangers."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from mamlcli.tasks.images.reading import deep_white, image_size, read_image
from tests.fuzz.bounds import bounded, tries
from tests.fuzz.inputs import changed

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8))
DEEP = Image.fromarray((np.arange(480, dtype=np.uint16) * 100).reshape(24, 20))


def saved(picture, kind, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _files() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        saved(PICTURE, "PNG"),
        saved(PICTURE.convert("P"), "PNG", transparency=3),
        saved(PICTURE.convert("RGBA"), "PNG"),
        saved(DEEP, "PNG"),
        saved(DEEP, "TIFF"),
        saved(PICTURE, "JPEG", exif=exif),
        saved(PICTURE, "JPEG", progressive=True),
        saved(PICTURE.convert("CMYK"), "JPEG"),
        saved(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
        saved(PICTURE, "BMP"),
        saved(PICTURE, "TGA"),
        saved(PICTURE, "TGA", compression="tga_rle"),
        saved(PICTURE, "PPM"),
        saved(PICTURE, "TIFF"),
        b"P3 20 24 255 " + b"1 " * 1440,
    ]
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        if features.check("libtiff"):
            files.append(saved(PICTURE, "TIFF", compression=compression))
    files += [saved(PICTURE, "WEBP", lossless=True)] if features.check("webp") else []
    files += [saved(PICTURE, "JPEG2000")] if features.check("jpg_2000") else []
    files += [saved(PICTURE, "AVIF")] if "AVIF" in Image.SAVE else []
    return files


FILES = _files()


@given(data=st.one_of(*map(changed, FILES)), channels=st.sampled_from((1, 3)))
@tries(200, 2000)
def test_a_file_is_an_image_or_told_what_is_wrong(tmp_path_factory, capfd, data, channels):
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    path.write_bytes(data)
    with bounded():
        image_size(path)
    with bounded():
        white = deep_white([path])
        assert read_image(path, size=16, channels=channels, invert=False, white=white).shape == (16, 16, channels)
    assert capfd.readouterr() == ("", "")
