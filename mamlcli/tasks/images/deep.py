"""Brings images of more than 8 bits to 8: a 16-bit file may hold 10, 12 or 14 bits, as scanners and microscopes do."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.bounded import BoundError, open_regular
from mamlcli.tasks.images.decoding import opened_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# The value that is white where all 16 bits are in use, and where 8, 10, 12 or 14 of them are.
FULL = 65535
_WHITES = (255, 1023, 4095, 16383)

# Pillow keeps the upper bytes of 16-bit colours. Told the other order of bytes, it keeps the lower ones.
_LOWER_BYTES = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}

_HEADER = 26  # bytes
_PNG_DEPTH = 24  # where in the header a PNG has its bits per channel


def white_of(paths: Iterable[Path], formats: list[str]) -> int:
    """Return the value that is white in the 16-bit files of one data set: the least of 8, 10, 12, 14 and 16 bits.

    Files that cannot be read have no say, and where no file has 16 bits it is 65535.

    Args:
        paths: all files of the data set.
        formats: that Pillow may try.
    """
    largest = 0
    for path in paths:
        if _may_be_deep(path):
            largest = max(largest, _largest_value(path, formats))
        if largest > _WHITES[-1]:
            return FULL
    return next(white for white in _WHITES if largest <= white) if largest else FULL


def bits_in_words(white: int) -> str:
    """Return what was done with the values of 16-bit files of such a white."""
    return f"16-bit files whose largest value fits into {white.bit_length()} bits: {white} is taken as white"


def is_deep(image: Image) -> bool:
    """Return whether an image has one channel of more than 8 bits."""
    return image.mode == "I" or image.mode.startswith("I;")


def grey_8_bit(image: Image, white: int) -> Image:
    """Return an image of one deep channel with 8 bits.

    Raises:
        ValueError: it has values below 0 or above 65535.
    """
    from PIL import Image as pil

    values = np.asarray(image).astype(np.int32)
    if values.min() < 0 or values.max() > FULL:
        raise ValueError("pixel values beyond 16 bits; save the image with 8 or 16 bits")
    return pil.fromarray(_in_8_bits(values, white))


def colours_8_bit(path: Path, formats: list[str], white: int) -> Image | None:
    """Return an upright image of 16-bit colours with 8 bits; None for other images and where white is 65535.

    Then Pillow's upper bytes are what is wanted.
    """
    from PIL import Image as pil

    values = None if white == FULL else _deep_colours(path, formats)
    return None if values is None else pil.fromarray(_in_8_bits(values, white))


def _in_8_bits(values: NDArray[np.int32], white: int) -> NDArray[np.uint8]:
    if white == FULL:
        return ((values + 128) // 257).astype(np.uint8)
    return np.minimum((2 * 255 * values + white) // (2 * white), 255).astype(np.uint8)


def _may_be_deep(path: Path) -> bool:
    """Return whether a file may have more than 8 bits, by its first bytes, so that few files are decoded twice."""
    try:
        with open_regular(path) as stream:
            head = stream.read(_HEADER)
    except (OSError, BoundError):
        return False
    if head.startswith(b"\x89PNG") and len(head) == _HEADER:
        return head[_PNG_DEPTH] == 16
    return head.startswith((b"II*\0", b"MM\0*", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51"))


def _largest_value(path: Path, formats: list[str]) -> int:
    """Return the largest value of a 16-bit file; 0 for one that has other values or cannot be read."""
    try:
        with opened_image(path, formats) as image:
            values = np.asarray(image).astype(np.int32) if is_deep(image) else _deep_colours(path, formats)
    except Exception:  # whatever is wrong with the file is told where it is read
        return 0
    return int(values.max()) if values is not None and values.size and values.max() <= FULL else 0


def _deep_colours(path: Path, formats: list[str]) -> NDArray[np.int32] | None:
    """Return the values of an image of 16-bit colours, upright, [height, width, channels]; None for other images."""
    from PIL import ImageOps

    with opened_image(path, formats) as image, opened_image(path, formats) as again:
        if image.mode not in ("RGB", "RGBA") or not _takes_lower_bytes(again):
            return None
        upper, lower = (np.asarray(ImageOps.exif_transpose(part)).astype(np.int32) for part in (image, again))
    return 256 * upper + lower


def _takes_lower_bytes(image: ImageFile) -> bool:
    """Make an image that is not loaded yet load the lower bytes of 16-bit colours; return whether it has such."""
    tiles, found = [], False
    for tile in image.tile:
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        changed = tuple(_other_bytes(word) if isinstance(word, str) else word for word in args)
        found |= changed != args
        tiles.append(tile._replace(args=changed if isinstance(tile.args, tuple) else changed[0]))
    image.tile = tiles
    return found


def _other_bytes(raw_mode: str) -> str:
    return raw_mode[:-4] + _LOWER_BYTES.get(raw_mode[-4:], raw_mode[-4:])
