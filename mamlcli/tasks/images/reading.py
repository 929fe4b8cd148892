"""Read image files as uint8 arrays, with the same preprocessing for packs and for a user's own images."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import DataError
from mamlcli.common.words import first_line
from mamlcli.tasks.images.decoding import MAX_PIXELS, opened_header, opened_image
from mamlcli.tasks.images.deep import FULL, colours_8_bit, grey_8_bit, is_deep, white_of
from mamlcli.tasks.images.unreadable import OTHER_SUFFIXES, kind_not_read, register_optional_formats, what_is_wrong

if TYPE_CHECKING:
    from PIL.Image import Image


FITS = ("center-crop", "stretch")
RESAMPLE = "lanczos"

# The formats that are tried, whatever the file is called. Not here: formats that start other programs (EPS).
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "TGA", "JPEG2000", "AVIF", "HEIF")
IMAGE_SUFFIXES = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
        ".pbm",
        ".pgm",
        ".ppm",
        ".pnm",
        ".tga",
        ".jp2",
        ".j2k",
        ".avif",
        *OTHER_SUFFIXES,
    }
)

_ORIENTATION = 0x0112  # the tag of EXIF that says how a picture is turned

# The largest side of an array that a run's images may have become; that of a recipe is at most 512.
_MOST_SIDE = 4096


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing says how image files become arrays; a pack records it, and a user's images go through the same.

    Attributes:
        size: height and width of the result, in pixels.
        channels: 1 (grey) or 3 (RGB).
        invert: whether bright and dark are exchanged, so that dark ink on white paper becomes 255 on 0.
        fit: "center-crop" keeps proportions and cuts the longer side; "stretch" keeps all and distorts.
        resample: "lanczos".
        white: the value of 16-bit files that becomes 255; see `deep_white`.
    """

    size: int
    channels: int
    invert: bool = False
    fit: str = "center-crop"
    resample: str = RESAMPLE
    white: int = FULL

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Read one file, [size, size, channels] uint8; see `read_image`."""
        return read_image(
            path, size=self.size, channels=self.channels, invert=self.invert, fit=self.fit, white=self.white
        )

    def to_dict(self) -> dict[str, object]:
        """Return the fields as primitives, for `PackSource.record`."""
        values = asdict(self)
        if self.white == FULL:
            del values["white"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Preprocessing:
        """Return the preprocessing of which `to_dict` gave `values`; keys with a default may be missing.

        Raises:
            TypeError: they are of other types, some are unknown, or size or channels are missing.
        """
        defaults = {"invert": cls.invert, "fit": cls.fit, "resample": cls.resample, "white": cls.white}
        match {**defaults, **values}:
            case {
                "size": int() as size,
                "channels": int() as channels,
                "invert": bool() as invert,
                "fit": str() as fit,
                "resample": str() as resample,
                "white": int() as white,
                **others,
            } if not others and 1 <= size <= _MOST_SIDE and channels in (1, 3) and 1 <= white <= FULL:
                return cls(size, channels, invert, fit, resample, white)
        raise TypeError(f"no preprocessing: {values}")


def read_image(
    path: Path, *, size: int, channels: int, invert: bool, fit: str = "center-crop", white: int = FULL
) -> NDArray[np.uint8]:
    """Read an image file of any common format and mode as a square uint8 array.

    In order: the orientation in the EXIF data is applied; transparency is laid over white; palettes, 1-bit,
    CMYK and the like become grey or RGB; 16-bit values v become (v + 128) // 257, or are scaled by `white` where
    the files of the data set do not use all 16 bits (of full 16-bit colours Pillow keeps the upper byte); the middle
    square is cut out (or not, for "stretch"); the result is resized with a Lanczos filter; then inverted.

    On Omniglot's 105x105 one-bit drawings, size 28 with `invert=True` gives exactly the 28x28 arrays that are
    in use (checked on 2380 drawings of three alphabets). Inverting before resizing differs from them by one
    grey level in a few pixels; bicubic, bilinear, Hamming and box filters by up to 25, 64, 42 and 81.

    Args:
        path: the file. Its content decides the format, not its name.
        size: height and width of the result.
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.
        invert: return 255 - value.
        fit: "center-crop" or "stretch".
        white: the value of 16-bit files that becomes 255; `deep_white` finds it for a data set.

    Returns:
        [size, size, channels], uint8.

    Raises:
        DataError: the file cannot be read as an image, is larger than `MAX_PIXELS`, or the fit is unknown.
    """
    from PIL import Image

    if fit not in FITS:
        raise DataError("fit", expected=f"one of {', '.join(FITS)}", got=repr(fit))
    picture = open_image(path, channels=channels, white=white)
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side) if fit == "center-crop" else (0, 0, width, height)
    resized = picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
    array = np.asarray(resized, dtype=np.uint8).reshape(size, size, channels)
    return (255 - array).astype(np.uint8) if invert else array


def open_image(path: Path, *, channels: int, white: int = FULL) -> Image:
    """Read a file as an upright, opaque 8-bit Pillow image of mode "L" (1 channel) or "RGB" (3).

    Raises:
        DataError: as for `read_image`.
    """
    from PIL import ImageOps

    if (kind := kind_not_read(path)) is not None:
        raise DataError(str(path), expected="an image", got=kind)
    with _decoding(path), opened_image(path, _known_formats()) as image:
        colours = colours_8_bit(path, _known_formats(), white)
        if colours is None and image.getexif().get(_ORIENTATION, 1) != 1:
            colours = ImageOps.exif_transpose(image)
        mode, opaque = "L" if channels == 1 else "RGB", _opaque_8_bit(colours or image, white)
        # A copy of a photograph takes hundreds of megabytes.
        return opaque.convert(mode) if opaque.mode != mode or opaque is image else opaque


@contextlib.contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Say in one sentence what is wrong with an image file, whatever a decoder raises for it."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of oddities in files that it reads all the same; what it cannot read, it raises.
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # each of Pillow's formats has errors of its own for a damaged file
        raise DataError(str(path), expected="an image", got=what_is_wrong(path) or _reason(error)) from error


def deep_white(paths: Iterable[Path]) -> int:
    """Return the value that is white in 16-bit files of one data set, which may use 10, 12 or 14 of their bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return white_of(paths, _known_formats())


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) from the header of an image file, without reading its pixels.

    Raises:
        DataError: as for `read_image`.
    """
    with _decoding(path), opened_header(path, _known_formats()) as image:
        width, height = image.size
        return int(width), int(height)


def _known_formats() -> list[str]:
    from PIL import Image

    Image.init()
    register_optional_formats()
    return [name for name in _FORMATS if name in Image.OPEN]


def _reason(error: BaseException) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError):
        return f"a picture of more than {MAX_PIXELS} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "a file of no known image format"
    # A ValueError is a sentence of ours, or one of Pillow's that says as much.
    return first_line(error) if type(error) is ValueError else f"{type(error).__name__}: {first_line(error)}"


def _opaque_8_bit(image: Image, white: int) -> Image:
    """Return the image with transparency laid over white and 16-bit values brought to 8 bits."""
    from PIL import Image as pil

    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save the image with 8 or 16 bits")
    if is_deep(image):
        return grey_8_bit(image, white)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        colours = image.convert("RGBA")
        return pil.alpha_composite(pil.new("RGBA", colours.size, "white"), colours)
    return image
