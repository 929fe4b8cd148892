"""Opens image files: regular ones alone, and none whose pixels, with all copies of them, take too much memory."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.common.bounded import open_regular, refuse_unfolding

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# Larger pictures are refused unread: a few kilobytes of file can unfold to gigabytes. Twice the size at which
# Pillow warns, where it refuses too.
MAX_PIXELS = 178_956_970

# Bytes of a pixel, by Pillow's mode: as it is stored, and in the copies that are made of it (a turned one, one without
# transparency, one of numbers where it has 16 bits).
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "LA": 4, "PA": 4}
_OF_COPIES = {
    "1": 4,
    "L": 4,
    "P": 16,
    "RGB": 8,
    "LA": 16,
    "PA": 16,
    "RGBA": 16,
    "CMYK": 8,
    "YCbCr": 8,
    "LAB": 8,
    "HSV": 8,
}
_OF_OTHERS = 24

# What a decoder itself keeps of a pixel: coefficients, planes, a canvas of an animation.
_OF_DECODERS = {"JPEG": 3, "MPO": 3, "WEBP": 8, "AVIF": 8, "HEIF": 8, "JPEG2000": 12}

# Blank pages hardly take any place in a file, and are no attack.
_ALWAYS_BYTES = 768 * 2**20

# Errors are raised; what Pillow logs beside them is for its authors.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextlib.contextmanager
def opened_image(path: Path, formats: list[str]) -> Iterator[ImageFile]:
    """Open an image whose pixels are to be read.

    Args:
        path: the file.
        formats: that Pillow may try.

    Raises:
        ValueError: too many pixels, or more bytes than a file of its size may unfold to; and whatever Pillow raises.
    """
    with opened_header(path, formats) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS}")
        refuse_unfolding(width * height * _bytes_of_pixel(image), os.stat(path).st_size, always=_ALWAYS_BYTES)
        yield image


@contextlib.contextmanager
def opened_header(path: Path, formats: list[str]) -> Iterator[ImageFile]:
    """Open an image of which the header alone is to be read; raises as `opened_image`, but for large pictures."""
    from PIL import Image

    with contextlib.ExitStack() as stack:
        image = stack.enter_context(Image.open(stack.enter_context(open_regular(path)), formats=formats))
        if image.format == "TIFF":
            stack.enter_context(_stderr_closed())
        yield image


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    """Keep a library in C from writing to standard error itself, as libtiff does of every oddity in a file."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _bytes_of_pixel(image: ImageFile) -> int:
    of_copies = _OF_COPIES.get(image.mode, _OF_OTHERS)
    if "transparency" in image.info:
        of_copies = 16
    return _STORED.get(image.mode, 4) + of_copies + _OF_DECODERS.get(image.format or "", 0)
