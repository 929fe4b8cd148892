"""One image file in, one uint8 array out: the same preprocessing for a pack and for a user's own images."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mamlcli.errors import DataError
from mamlcli.tasks.packs import Pack

if TYPE_CHECKING:
    from PIL.Image import Image

FITS = ("center-crop", "stretch")
RESAMPLE = "lanczos"

# The formats that are tried, whatever the file is called. Not here: formats that start other programs (EPS).
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "TGA", "JPEG2000", "AVIF")
IMAGE_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".pbm", ".pgm",
    ".ppm", ".pnm", ".tga", ".jp2", ".j2k", ".avif",
})  # fmt: skip

# Larger pictures are refused unread: a few kilobytes of file can unfold to gigabytes. Twice the size at which
# Pillow warns, where it refuses too.
MAX_PIXELS = 178_956_970

# What a decoder raises for a damaged file depends on the format; all of it means the same to the user.
_DECODE_ERRORS = (OSError, ValueError, SyntaxError, LookupError, TypeError, ArithmeticError, EOFError,
                  NotImplementedError, MemoryError, struct.error, zlib.error)  # fmt: skip

# A border that is nearly all paper has its median above this; photographs are seldom that bright.
_BRIGHT_BORDER = 191.0
_DARK_BORDER = 64.0

# A page on which no pixel differs more from its ground is taken as blank.
_LEAST_CONTRAST = 24.0
_LARGEST_SEARCHED = 256  # pixels: ink is looked for in a picture no larger
_NUM_MEASURED = 1000  # images of a pack whose ink is measured


@dataclass(frozen=True)
class Preprocessing:
    """How image files become arrays: what a pack records, and what a user's images must go through again.

    Attributes:
        size: height and width of the result, in pixels.
        channels: 1 (grey) or 3 (RGB).
        invert: whether bright and dark are exchanged, so that dark ink on white paper becomes 255 on 0.
        fit: "center-crop" keeps proportions and cuts the longer side; "stretch" keeps all and distorts.
        resample: "lanczos".
    """

    size: int
    channels: int
    invert: bool = False
    fit: str = "center-crop"
    resample: str = RESAMPLE

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Read one file, [size, size, channels] uint8; see `read_image`."""
        return read_image(path, size=self.size, channels=self.channels, invert=self.invert, fit=self.fit)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as primitives, for `PackSource.record`."""
        return asdict(self)


def read_image(path: Path, *, size: int, channels: int, invert: bool, fit: str = "center-crop") -> NDArray[np.uint8]:
    """Read an image file of any common format and mode as a square uint8 array.

    In order: the orientation in the EXIF data is applied; transparency is laid over white; palettes, 1-bit,
    CMYK and the like become grey or RGB; 16-bit values v become (v + 128) // 257; the middle square is cut
    out (or not, for "stretch"); the result is resized with a Lanczos filter; then inverted.

    On Omniglot's 105x105 one-bit drawings, size 28 with `invert=True` gives exactly the 28x28 arrays that are
    in use (checked on 2380 drawings of three alphabets). Inverting before resizing differs from them by one
    grey level in a few pixels; bicubic, bilinear, Hamming and box filters by up to 25, 64, 42 and 81.

    Args:
        path: the file. Its content decides the format, not its name.
        size: height and width of the result.
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.
        invert: return 255 - value.
        fit: "center-crop" or "stretch".

    Returns:
        [size, size, channels], uint8.

    Raises:
        DataError: the file cannot be read as an image, is larger than `MAX_PIXELS`, or the fit is unknown.
    """
    from PIL import Image

    if fit not in FITS:
        raise DataError("fit", expected=f"one of {', '.join(FITS)}", got=repr(fit))
    picture = open_image(path, channels=channels)
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side) if fit == "center-crop" else (0, 0, width, height)
    resized = picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
    array = np.asarray(resized, dtype=np.uint8).reshape(size, size, channels)
    return (255 - array).astype(np.uint8) if invert else array


def read_ink(path: Path, preprocessing: Preprocessing, *, extent: float) -> NDArray[np.uint8]:
    """Read a drawing, not inverted, so that its ink is in the middle and as large as that of other drawings.

    The square that is cut out is centred on the ink's bounding box and 1 / extent of its larger side; where it is
    larger than the page, the page goes on. A blank page is read as it is.

    Args:
        path: the file.
        preprocessing: size and channels (1) of the result.
        extent: the larger side of the ink's bounding box in the result, as a fraction of the result's side.

    Returns:
        [size, size, 1], uint8.

    Raises:
        DataError: as for `read_image`.
    """
    from PIL import Image

    picture = open_image(path, channels=1)
    small = picture.copy()
    small.thumbnail((_LARGEST_SEARCHED, _LARGEST_SEARCHED), Image.Resampling.LANCZOS)  # which also averages noise out
    array = np.asarray(small, dtype=np.uint8)[None, :, :, None]
    box = ink_boxes(array)[0] * (picture.width / small.width)
    if not np.isfinite(box).all():
        return preprocessing.read(path)
    top, bottom, left, right = box
    side = max(2, round(max(bottom - top, right - left) / extent))
    page = Image.new("L", (side, side), round(float(_grounds(array)[0])))
    page.paste(picture, (round(side / 2 - (left + right) / 2), round(side / 2 - (top + bottom) / 2)))
    size = preprocessing.size
    resized = page.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(resized, dtype=np.uint8).reshape(size, size, 1)


def ink_boxes(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the bounding box of what is drawn in each image: top, bottom, left, right, in pixels.

    Ink is what differs from the ground (the median of the border) by half as much as the pixel that differs most.

    Args:
        images: [num_images, height, width, 1], uint8.

    Returns:
        [num_images, 4] float64; NaN where nothing is drawn.
    """
    away = np.abs(images[..., 0].astype(np.float64) - _grounds(images)[:, None, None])
    most = away.max(axis=(1, 2))
    ink = away > 0.5 * np.maximum(most, 1.0)[:, None, None]
    boxes = np.full((len(images), 4), np.nan)
    for index in np.flatnonzero(most >= _LEAST_CONTRAST):
        rows, columns = np.flatnonzero(ink[index].any(axis=1)), np.flatnonzero(ink[index].any(axis=0))
        boxes[index] = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return boxes


def ink_extent(images: NDArray[np.uint8]) -> float:
    """Return the median, over images, of the larger side of the ink's box as a fraction of the image; NaN if blank."""
    top, bottom, left, right = ink_boxes(images).T
    sides = np.maximum(bottom - top, right - left) / images.shape[1]
    return float(np.median(sides[np.isfinite(sides)])) if np.isfinite(sides).any() else float("nan")


def open_image(path: Path, *, channels: int) -> Image:
    """Read a file as an upright, opaque 8-bit Pillow image of mode "L" (1 channel) or "RGB" (3).

    Raises:
        DataError: as for `read_image`.
    """
    from PIL import Image, ImageOps

    try:
        # Pillow warns of oddities in files that it reads all the same; what it cannot read, it raises.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_known_formats()) as image:
                _refuse_huge(image)
                upright = ImageOps.exif_transpose(image)
                opaque = _opaque_8_bit(upright)
                return opaque.convert("L" if channels == 1 else "RGB")
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        raise DataError(str(path), expected="an image", got=_reason(error)) from error


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) from the header of an image file, without reading its pixels.

    Raises:
        DataError: as for `read_image`.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_known_formats()) as image:
                width, height = image.size
                return int(width), int(height)
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        raise DataError(str(path), expected="an image", got=_reason(error)) from error


def _known_formats() -> list[str]:
    from PIL import Image

    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _refuse_huge(image: Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS}")


def _reason(error: BaseException) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError):
        return f"a picture of more than {MAX_PIXELS} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "a file of no known image format"
    text = str(error).splitlines()[0] if str(error) else "no message"
    return f"{type(error).__name__}: {text}"


def _opaque_8_bit(image: Image) -> Image:
    """Return the image with transparency laid over white and 16-bit values brought to 8 bits."""
    from PIL import Image as pil

    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save the image with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;"):
        return _from_16_bit(image)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        colours = image.convert("RGBA")
        return pil.alpha_composite(pil.new("RGBA", colours.size, "white"), colours)
    return image


def _from_16_bit(image: Image) -> Image:
    from PIL import Image as pil

    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("pixel values beyond 16 bits; save the image with 8 or 16 bits")
    return pil.fromarray(((values + 128) // 257).astype(np.uint8))


def ink_is_dark(images: NDArray[np.uint8]) -> bool:
    """Tell whether grey images are dark ink on bright paper: the median of all their border pixels is bright.

    Args:
        images: [num_images, height, width, channels], uint8, not inverted.
    """
    return images.shape[3] == 1 and _border_median(images) > _BRIGHT_BORDER


def _border_median(images: NDArray[np.uint8]) -> float:
    edges = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    return float(np.median(np.concatenate([edge.ravel() for edge in edges])))


@dataclass(frozen=True)
class ImageRecord:
    """What a run keeps of the images it was trained on, so that others can go the same way when these are gone.

    Attributes:
        preprocessing: how files became arrays; of drawn images and of packs that do not say, what leads to arrays
            like theirs.
        border: the median of all border pixels, 0 to 255, as the network sees them.
        extent: of drawings `ink_extent`; None of others.
    """

    preprocessing: Preprocessing
    border: float
    extent: float | None = None

    @property
    def is_of_drawings(self) -> bool:
        """Whether these are grey images on a ground that is all but black or all but white."""
        return self.preprocessing.channels == 1 and _is_extreme(self.border)

    def must_invert(self, images: NDArray[np.uint8]) -> bool:
        """Return whether images of one folder, read without inversion, must be inverted to look like the run's.

        Where the run was trained on drawings: exactly if the ground of most of them is the opposite of the run's.
        Otherwise what the run's own files went through: a photograph does not tell.

        Args:
            images: [num_images, size, size, channels], uint8.
        """
        if not self.is_of_drawings or not len(images):
            return self.preprocessing.invert
        return bool(np.mean(grounds_are_bright(images)) > 0.5) != (self.border > _BRIGHT_BORDER)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as primitives, for a run's manifest."""
        return {**self.preprocessing.to_dict(), "border": self.border, "extent": self.extent}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageRecord:
        """Return the record of which `to_dict` gave `values`.

        Raises:
            TypeError, ValueError, KeyError: they are not.
        """
        rest = {key: value for key, value in values.items() if key not in ("border", "extent")}
        extent = values["extent"]
        return cls(Preprocessing(**rest), float(values["border"]), None if extent is None else float(extent))


def image_record(pack: Pack) -> ImageRecord | None:
    """Return what a run keeps of a pack's images; None where they are not square."""
    height, width, channels = pack.images.shape[1:]
    if height != width:
        return None
    known = pack.source.preprocessing
    fit, invert = str(known.get("fit", "center-crop")), bool(known.get("invert", False))
    record = ImageRecord(Preprocessing(int(height), int(channels), invert, fit), _border_median(pack.images))
    if not record.is_of_drawings:
        return record
    extent = ink_extent(pack.images[:: max(1, len(pack.images) // _NUM_MEASURED)])
    return replace(record, extent=extent if np.isfinite(extent) else None)


def grounds_are_bright(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell of each image whether its ground is brighter than what is drawn on it.

    The median of its border is compared with its darkest and brightest pixels, not with fixed values: paper in a
    photograph is grey.

    Args:
        images: [num_images, height, width, channels], uint8.

    Returns:
        [num_images], bool.
    """
    ground = _grounds(images)
    pixels = images.reshape(len(images), -1)
    darkest, brightest = pixels.min(axis=1).astype(float), pixels.max(axis=1).astype(float)
    # A blank page is bright or dark by itself.
    return np.asarray(np.where(darkest == brightest, ground > 127.5, ground - darkest > brightest - ground))


def _grounds(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the median of the border pixels of each image, [num_images]."""
    sides = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    return np.asarray(np.median(np.concatenate([side.reshape(len(images), -1) for side in sides], axis=1), axis=1))


def _is_extreme(brightness: float) -> bool:
    return brightness > _BRIGHT_BORDER or brightness < _DARK_BORDER
