"""Measure the shapes of letters as distance fields, and how far apart two shapes are to the eye.

From a distance field any size, deformation and pen is one look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mamlcli.tasks.images.fonts import Face

FloatArray = NDArray[np.float32] | NDArray[np.float64]
LETTER_PIXELS = 19.0  # the longer side of every letter, in image pixels, the unit of all that follows
_MARGIN = 12  # font pixels around the ink, so that distances near the border are true

# Another typeface may stand for a letter only if its shape is nearly the same: Georgian las has three loops
# in the sans and serif faces and one in the mono (0.75), two letters to whoever sees one example.
_TOLERANCE_FACE = 0.55


@dataclass(frozen=True, eq=False)
class Shape:
    """A shape is the outline of a letter whose longer side is `LETTER_PIXELS`, as distances to it.

    Attributes:
        distance: [height, width] float32, image pixels, negative in the ink.
        scale: font pixels per image pixel.
        half_pen: half of the mean stroke width, image pixels.
        half_size: [2] float32, half of the ink's height and width, image pixels.
        largest_part: size of the largest connected part over the size of the letter, in (0, 1].
        has_marks: whether parts much smaller than the largest stand beside it (dots, accents).
    """

    distance: FloatArray
    scale: float
    half_pen: float
    half_size: FloatArray
    largest_part: float
    has_marks: bool

    def sample(self, points: FloatArray) -> FloatArray:
        """Return the distances at points [2, ...] (down, right), image pixels from the letter's centre."""
        centre = (np.array(self.distance.shape) - 1.0) / 2.0
        places = points * self.scale + centre.reshape((2,) + (1,) * (points.ndim - 1))
        distances = ndimage.map_coordinates(self.distance, places, order=1, mode="nearest")
        return np.asarray(distances, dtype=np.float32)


def letter_faces(char: str, faces: Sequence[Face]) -> list[Shape]:
    """Return the shapes of a letter: in the first face, and in those others whose shape is nearly the same."""
    drawn = [letter_shape(face.font, char) for face in faces if ord(char) in face.covered]
    shapes = [shape for shape in drawn if shape is not None]
    near = shape_distances(shapes[:1], shapes)[0] < _TOLERANCE_FACE
    return [shape for index, shape in enumerate(shapes) if index == 0 or near[index]]


def letter_shape(font: ImageFont.FreeTypeFont, char: str, *, with_marks: bool = True) -> Shape | None:
    """Return the shape of a letter, or None if the font draws nothing for it.

    Without marks, parts smaller than a quarter of the largest are left out, so that letters which differ in
    dots alone (Arabic beh and teh, i and dotless i) have one shape.
    """
    left, top, right, bottom = (int(edge) for edge in font.getbbox(char))
    canvas = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
    ImageDraw.Draw(canvas).text((-left, -top), char, fill=255, font=font)
    parts, num_parts = ndimage.label(np.asarray(canvas) > 127, structure=np.ones((3, 3)))
    if num_parts == 0:
        return None
    areas = np.bincount(parts.ravel())
    areas[0] = 0  # the paper
    is_body = areas >= 0.25 * areas.max()
    ink = is_body[parts] if not with_marks else parts > 0
    (box,) = ndimage.find_objects(ink.astype(np.uint8))
    ink = np.pad(ink[box], _MARGIN)
    inside, outside = ndimage.distance_transform_edt(ink), ndimage.distance_transform_edt(~ink)
    size = np.array(ink.shape) - 2 * _MARGIN
    scale = float(size.max()) / LETTER_PIXELS
    box_of_largest = ndimage.find_objects(parts)[areas.argmax() - 1]
    largest = max(side.stop - side.start for side in box_of_largest)
    return Shape(
        distance=((outside - inside + (ink - 0.5)) / scale).astype(np.float32),  # zero between two pixels
        scale=scale,
        half_pen=float(2.0 * inside[ink].mean() / scale),  # across a stroke the mean is half of the half width
        half_size=(size / (2.0 * scale)).astype(np.float32),
        largest_part=float(largest / size.max()),
        has_marks=int(is_body.sum()) < num_parts,
    )


def shape_distances(first: Sequence[Shape], second: Sequence[Shape]) -> FloatArray:
    """Return how far apart shapes are to the eye, [len(first), len(second)], image pixels.

    With equal size and pen, the root mean square distance from the ink of one shape to the other shape, the
    larger of the two directions, at the best of seven small stretches and shifts of the second.
    """
    ink, squares = _normalised(first)
    best = np.full((len(first), len(second)), np.inf, dtype=np.float32)
    moves = ((1, 0, 0), (0.87, 0, 0), (1.15, 0, 0), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1))
    for stretch, down, right in moves:
        moved_ink, moved_squares = _normalised(second, stretch=stretch, shift=(down, right))
        best = np.minimum(best, np.maximum(ink @ moved_squares.T, squares @ moved_ink.T))
    return np.sqrt(best)


def _normalised(
    shapes: Sequence[Shape], *, stretch: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[FloatArray, FloatArray]:
    """Return the ink (sum 1) of each shape and the squared distance to it, each [num_shapes, 28 * 28].

    All have a half pen of one pixel and fill the same square, as far as a stretch by 1.6 brings them there
    (so an l stays narrow). Distances count up to 4 pixels: further off is simply elsewhere.
    """
    line = np.linspace(-11.5, 11.5, 28, dtype=np.float32)
    grid = np.stack(np.meshgrid(line - shift[0], (line - shift[1]) * stretch, indexing="ij"))
    rows = []
    for shape in shapes:
        filling = np.minimum(shape.half_size.max() / shape.half_size, 1.6)
        rows.append(shape.sample(grid / filling[:, None, None]).ravel() + (shape.half_pen - 1.0))
    distance = np.stack(rows).astype(np.float32)
    ink = np.clip(0.5 - distance, 0.0, 1.0)
    # A pen of two pixels always leaves ink; the floor protects the division if a font were to draw a hair.
    ink /= np.maximum(ink.sum(axis=1, keepdims=True), 1e-6)
    return ink, np.clip(distance, 0.0, 4.0) ** 2
