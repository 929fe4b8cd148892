"""Letters: the shapes that `glyphs` draws, found in matplotlib's fonts, each look-alike once.

A letter is held as a distance field, from which any size, deformation and pen is one look-up.

Latin, Greek and Cyrillic share an A, Lisu is written in Latin capitals, and case often only scales a letter:
were such twins different classes, meta-test would hold shapes known from meta-training. So a letter is kept
only if it looks like none kept before. The choice depends on the last digit of outlines, so its result is
shipped (`splits/glyphs.json`): the classes, and with them the tasks, are the same on every machine.
"""

from __future__ import annotations

import importlib.util
import json
import struct
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mamlcli.common.errors import DataError

FloatArray = NDArray[np.floating[Any]]


# Whole scripts to a split, so that meta-test scripts are unseen in training; each with the first words of its
# letters' Unicode names. The order also decides who keeps a shape that several scripts share: the first. So
# the letters of validation and test are those that look like no letter of meta-training.
SPLIT_SCRIPTS: dict[str, dict[str, str]] = {
    "train": {
        "Latin": "LATIN",
        "Greek": "GREEK",
        "Cyrillic": "CYRILLIC",
        "Coptic": "COPTIC",
        "Canadian Aboriginal": "CANADIAN SYLLABICS",
    },
    "validation": {
        "Armenian": "ARMENIAN",
        "Arabic": "ARABIC",
        "Tifinagh": "TIFINAGH",
        "Lisu": "LISU",
        "Old Italic": "OLD ITALIC",
    },
    "test": {"Georgian": "GEORGIAN", "Hebrew": "HEBREW", "Lao": "LAO", "NKo": "NKO", "Ogham": "OGHAM"},
}


SCRIPTS = {script: prefix for scripts in SPLIT_SCRIPTS.values() for script, prefix in scripts.items()}


FACES = (
    "DejaVuSans.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSansMono.ttf",
)  # the first decides which letters there are


FONT_PIXELS = 96  # letters are some 70 pixels high, where hinting moves an outline by less than 1 %


LETTER_PIXELS = 19.0  # the longer side of every letter, in image pixels, the unit of all that follows


_MARGIN = 12  # font pixels around the ink, so that distances near the border are true


_SKIPPED_WORDS = frozenset({"LIGATURE", "DIGRAPH", "IOTIFIED", "TONE"})  # two letters joined; tone marks


_MAX_HALF_PEN = 2.6  # a thicker stroke is a dot or an apostrophe blown up to the size of a letter


_MIN_LARGEST_PART = 0.35  # of the letter's size; less is a letter of dots alone, which reads as specks


# Two letters closer than this (`shape_distances`) count as one. From sheets of the nearest pairs: within a
# script, most pairs up to 0.44 are one letter to the eye (the upper half of an o, as U+1D12 and as U+1D16,
# 0.42) and from 0.46 on most are two (the Ogham letters of three and four strokes, 0.47). Across scripts,
# twins reach 0.53 (capital K and small Cyrillic ka, 0.52), and there a leak into meta-test costs more than a
# lost class. Upper and lower case are scaled copies of each other up to 0.92 (Y and y).
_TOLERANCE_SCRIPT = 0.45


_TOLERANCE_ACROSS = 0.54


_TOLERANCE_CASE = 0.95


# Another typeface may stand for a letter only if its shape is nearly the same: Georgian las has three loops
# in the sans and serif faces and one in the mono (0.75), two letters to whoever sees one example.
_TOLERANCE_FACE = 0.55


@dataclass(frozen=True)
class Letter:
    """One letter of a script; `name`, as in "Greek/U+03BE", is the name of its class."""

    char: str
    script: str

    @property
    def name(self) -> str:
        return f"{self.script}/U+{ord(self.char):04X}"


@dataclass(frozen=True, eq=False)
class Shape:
    """The outline of a letter whose longer side is `LETTER_PIXELS`, as distances to it.

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


@dataclass(frozen=True, eq=False)
class Face:
    """A typeface at `FONT_PIXELS` and the code points it has glyphs for."""

    font: ImageFont.FreeTypeFont
    covered: frozenset[int]


def load_faces() -> tuple[Face, ...]:
    """Return `FACES` from matplotlib's folder, found without importing matplotlib.

    Raises:
        DataError: matplotlib or its fonts are missing, or the fonts are damaged.
    """
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "glyphs",
            expected="the fonts of matplotlib",
            got="no matplotlib",
            next_step="Run: python -m pip install matplotlib",
        )
    folder = Path(spec.submodule_search_locations[0], "mpl-data", "fonts", "ttf")
    # Basic layout draws each letter alone and as it stands, whether or not Pillow was built with Raqm.
    basic = ImageFont.Layout.BASIC
    try:
        return tuple(
            Face(
                font=ImageFont.truetype(str(folder / name), FONT_PIXELS, layout_engine=basic),
                covered=covered_points((folder / name).read_bytes()),
            )
            for name in FACES
        )
    except (OSError, struct.error, KeyError) as error:
        raise DataError(
            f"glyphs: {folder}",
            expected=f"the fonts {', '.join(FACES)}",
            got=f"{type(error).__name__}: {error}",
            why="They are part of matplotlib",
            next_step="Run: python -m pip install --force-reinstall matplotlib",
        ) from error


def covered_points(font: bytes) -> frozenset[int]:
    """Return the code points a TrueType file has a glyph for, so that no empty box is drawn for a letter.

    Source: the OpenType specification, table cmap, subtable format 12 (every DejaVu face has one).
    """
    (num_tables,) = struct.unpack_from(">H", font, 4)
    records = range(12, 12 + 16 * num_tables, 16)
    tables = {font[at : at + 4]: struct.unpack_from(">L", font, at + 8)[0] for at in records}
    cmap = tables[b"cmap"]
    (num_subtables,) = struct.unpack_from(">H", font, cmap + 2)
    points: set[int] = set()
    for record in range(cmap + 4, cmap + 4 + 8 * num_subtables, 8):
        subtable = cmap + struct.unpack_from(">L", font, record + 4)[0]
        if struct.unpack_from(">H", font, subtable)[0] != 12:
            continue
        (num_groups,) = struct.unpack_from(">L", font, subtable + 12)
        for group in range(subtable + 16, subtable + 16 + 12 * num_groups, 12):
            first, last, glyph = struct.unpack_from(">LLL", font, group)
            points.update(range(first + (glyph == 0), last + 1))  # glyph 0 is the empty box
    return frozenset(points)


def listed_letters() -> tuple[Letter, ...]:
    """Return the letters of the shipped list, the classes of `glyphs`, by script and code point."""
    text = (resources.files("mamlcli.tasks.images") / "splits" / "glyphs.json").read_text("utf-8")
    lists: dict[str, list[str]] = json.loads(text)
    return tuple(Letter(chr(int(code, 16)), script) for script, codes in lists.items() for code in codes)


def choose_letters() -> tuple[Letter, ...]:
    """Choose the letters that look like no other letter; the shipped list was made by this function."""
    face = load_faces()[0]
    letters, shapes = [], []
    for letter in candidates(face.covered):
        shape = letter_shape(face.font, letter.char, with_marks=False)
        if shape and shape.half_pen < _MAX_HALF_PEN and shape.largest_part >= _MIN_LARGEST_PART:
            letters.append(letter)
            shapes.append(shape)
    return tuple(letters[index] for index in sorted(_distinct(letters, shapes)))


def candidates(covered: Iterable[int]) -> list[Letter]:
    """Return the letters of each script, in its order, without those that Unicode builds from others.

    A decomposition marks accented letters, presentation forms (Arabic initial, medial, final) and
    mathematical alphabets: their base letters are there already. Modifier letters are small copies.
    """
    chars = [char for char in map(chr, sorted(covered)) if unicodedata.category(char) in ("Lu", "Ll", "Lo")]
    names = {char: unicodedata.name(char, "") for char in chars if not unicodedata.decomposition(char)}
    return [
        Letter(char, script)
        for script, prefix in SCRIPTS.items()
        for char, name in names.items()
        if name.startswith(f"{prefix} ") and not _SKIPPED_WORDS.intersection(name.split())
    ]


def _distinct(letters: Sequence[Letter], shapes: Sequence[Shape]) -> list[int]:
    """Return the indices of letters unlike every one kept before; in a script, unmarked ones go first."""
    order = list(SCRIPTS)
    script = np.array([order.index(letter.script) for letter in letters])
    upper = np.array([letter.char.upper() for letter in letters])
    tolerance = np.where(script[:, None] == script, _TOLERANCE_SCRIPT, _TOLERANCE_ACROSS)
    tolerance[upper[:, None] == upper] = _TOLERANCE_CASE
    distance = shape_distances(shapes, shapes)
    alike = np.minimum(distance, distance.T) < tolerance
    distinct: list[int] = []
    for index in sorted(range(len(letters)), key=lambda i: (script[i], shapes[i].has_marks, i)):
        if not alike[index, distinct].any():
            distinct.append(index)
    return distinct


def letter_faces(char: str, faces: Sequence[Face]) -> list[Shape]:
    """Return a letter in the first face, and in the others that have it in nearly the same shape."""
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
    ink = np.pad(ink[_bounds(ink)], _MARGIN)
    inside, outside = ndimage.distance_transform_edt(ink), ndimage.distance_transform_edt(~ink)
    size = np.array(ink.shape) - 2 * _MARGIN
    scale = float(size.max()) / LETTER_PIXELS
    largest = max(side.stop - side.start for side in _bounds(parts == areas.argmax()))
    return Shape(
        distance=((outside - inside + (ink - 0.5)) / scale).astype(np.float32),  # zero between two pixels
        scale=scale,
        half_pen=float(2.0 * inside[ink].mean() / scale),  # across a stroke the mean is half of the half width
        half_size=(size / (2.0 * scale)).astype(np.float32),
        largest_part=float(largest / size.max()),
        has_marks=int(is_body.sum()) < num_parts,
    )


def _bounds(ink: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


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
