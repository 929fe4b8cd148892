"""Finds the ink of drawings, cuts it out (`--frame ink`), and tells dark ink from bright."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.tasks.images.deep import FULL
from mamlcli.tasks.images.packs import Pack
from mamlcli.tasks.images.reading import Preprocessing, open_image

# A border that is nearly all paper has its median above this; photographs are seldom that bright.
_BRIGHT_BORDER = 191.0
_DARK_BORDER = 64.0

# A page on which no pixel differs more from its ground is taken as blank.
_LEAST_CONTRAST = 24.0
_LARGEST_SEARCHED = 256  # pixels: ink is looked for in a picture no larger
_NUM_MEASURED = 1000  # images of a pack whose ink is measured


def read_ink(path: Path, preprocessing: Preprocessing, *, extent: float) -> NDArray[np.uint8]:
    """Read a drawing, without inversion, so that its ink stands in the middle at a given size.

    The square that is cut out has the ink's bounding box in its middle, and its side is 1 / extent times the larger
    side of that box; where the square is larger than the page, it is filled with the page's ground. A blank page is
    read as it is.

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

    picture = open_image(path, channels=1, white=preprocessing.white)
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


def ink_is_dark(images: NDArray[np.uint8]) -> bool:
    """Return whether grey images are dark ink on bright paper: the median of all their border pixels is bright.

    Args:
        images: [num_images, height, width, channels], uint8, not inverted.
    """
    return images.shape[3] == 1 and _border_median(images) > _BRIGHT_BORDER


def _border_median(images: NDArray[np.uint8]) -> float:
    edges = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    return float(np.median(np.concatenate([edge.ravel() for edge in edges])))


@dataclass(frozen=True)
class ImageRecord:
    """An image record says how a run's images became arrays, so that other images can become arrays like them.

    A run keeps it, as its data may be gone when images of a user are to be classified.

    Attributes:
        preprocessing: how files became arrays; for glyphs, and for packs that do not say it, what would give arrays
            like theirs.
        border: the median of all border pixels, 0 to 255, as the network sees them.
        extent: `ink_extent` of the images if they are drawings, else None.
    """

    preprocessing: Preprocessing
    border: float
    extent: float | None = None

    @property
    def is_of_drawings(self) -> bool:
        """Whether the images are grey, on a ground that is nearly black or nearly white."""
        return self.preprocessing.channels == 1 and _is_extreme(self.border)

    def must_invert(self, images: NDArray[np.uint8]) -> bool:
        """Return whether images of one folder, read without inversion, must be inverted to look like the run's.

        If the run was trained on drawings, they must be if the ground of most of them is the opposite of the run's.
        Else they are inverted if the run's own files were: a photograph does not show whether it is inverted.

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
    def from_dict(cls, values: Mapping[str, object]) -> ImageRecord:
        """Return the record of which `to_dict` gave `values`.

        Raises:
            TypeError: they are values of another kind, or some are missing.
        """
        match dict(values):
            case {"border": int() | float() as border, "extent": int() | float() | None as extent, **others}:
                preprocessing = Preprocessing.from_dict({str(name): value for name, value in others.items()})
                return cls(preprocessing, float(border), None if extent is None else float(extent))
        raise TypeError(f"no record of images: {values}")


def image_record(pack: Pack) -> ImageRecord | None:
    """Return the record of a pack's images, or None if they are not square."""
    height, width, channels = pack.images.shape[1:]
    if height != width:
        return None
    known = pack.source.preprocessing
    fit, invert = str(known.get("fit", "center-crop")), bool(known.get("invert", False))
    white = known.get("white", FULL)
    preprocessing = Preprocessing(
        int(height), int(channels), invert, fit, white=white if isinstance(white, int) else FULL
    )
    record = ImageRecord(preprocessing, _border_median(pack.images))
    if not record.is_of_drawings:
        return record
    extent = ink_extent(pack.images[:: max(1, len(pack.images) // _NUM_MEASURED)])
    return replace(record, extent=extent if np.isfinite(extent) else None)


def grounds_are_bright(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return for each image whether its ground is brighter than what is drawn on it.

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
