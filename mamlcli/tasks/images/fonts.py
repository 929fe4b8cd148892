"""Load the typefaces that come with matplotlib, without importing it."""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

from mamlcli.common.errors import DataError

FACES = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")  # the first decides which letters there are

FONT_PIXELS = 96  # letters are some 70 pixels high, where hinting moves an outline by less than 1 %


@dataclass(frozen=True, eq=False)
class Face:
    """A face is a typeface at `FONT_PIXELS` and the code points it has glyphs for."""

    font: ImageFont.FreeTypeFont
    covered: frozenset[int]


def font_folder() -> Path | None:
    """Return matplotlib's folder of TrueType fonts, or None if matplotlib is not installed."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], "mpl-data", "fonts", "ttf")


def load_faces() -> tuple[Face, ...]:
    """Load `FACES` from matplotlib's folder.

    Raises:
        DataError: matplotlib or its fonts are missing, or the fonts are damaged.
    """
    folder = font_folder()
    if folder is None:
        raise DataError(
            "glyphs",
            expected="the fonts of matplotlib",
            got="no matplotlib",
            next_step="Run: python -m pip install matplotlib",
        )
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
