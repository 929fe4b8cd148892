"""Contact sheets: the images of one episode in one picture, to look at."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mamlcli.errors import DataError
from mamlcli.tasks.packs import Pack

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

# Images are enlarged by a whole factor until they are at least so large, in pixels.
_CELL_SIZE = 84
_GAP = 4
_MARGIN = 10
_FONT_SIZE = 14
_LINE_HEIGHT = 20
_PAPER, _INK, _SUPPORT, _QUERY = "#ffffff", "#202020", "#dce6f5", "#f5e8d6"


def draw_episode(
    pack: Pack, class_names: Sequence[str], *, ways: int, shots: int, queries: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[str]]:
    """Draw one episode to look at (training draws its own).

    Args:
        pack: the images.
        class_names: the classes to draw from, all in the pack.
        ways: classes.
        shots: support images of each class.
        queries: query images of each class.
        seed: the same seed draws the same episode.

    Returns:
        Support [ways, shots, height, width, channels] and query [ways, queries, ...], uint8, and the names of
        the classes drawn.

    Raises:
        DataError: there are fewer classes than ways, or too few images of a class.
    """
    if len(class_names) < ways:
        raise DataError(
            "--ways", expected=f"at most the {len(class_names)} classes of the split", got=str(ways),
            next_step=f"Use --ways {len(class_names)}, or all classes: --split all",
        )  # fmt: skip
    generator = np.random.default_rng(seed)
    chosen = [class_names[index] for index in generator.choice(len(class_names), size=ways, replace=False)]
    drawn = []
    for name in chosen:
        indices = np.flatnonzero(pack.labels == pack.class_names.index(name))
        if len(indices) < shots + queries:
            raise DataError(
                f"class {name!r}", expected=f"at least {shots + queries} images (shots + queries)",
                got=str(len(indices)), next_step="Use fewer: --shots N --queries N",
            )  # fmt: skip
        drawn.append(pack.images[generator.choice(indices, size=shots + queries, replace=False)])
    images = np.stack(drawn)
    return images[:, :shots], images[:, shots:], chosen


def contact_sheet(support: NDArray[np.uint8], query: NDArray[np.uint8], class_names: Sequence[str]) -> Image:
    """Lay out an episode: one column for each class, support above, query below.

    Args:
        support: [ways, shots, height, width, channels], uint8, channels 1 or 3.
        query: [ways, queries, height, width, channels], uint8.
        class_names: [ways]; "alphabet/character" takes two lines, what is too long is cut.

    Returns:
        An RGB picture, small images enlarged without smoothing.
    """
    from PIL import Image, ImageDraw

    ways, _, height, width = support.shape[:4]
    scale = max(1, -(-_CELL_SIZE // min(height, width)))
    cell_width, cell_height = width * scale + _GAP, height * scale + _GAP
    left = 2 * _MARGIN + round(max(_font().getlength(text) for text in ("support", "query")))
    bands = (("support", _SUPPORT, support), ("query", _QUERY, query))
    band_heights = [_GAP + images.shape[1] * cell_height for _, _, images in bands]
    num_lines = max(len(_title(name)) for name in class_names)
    top = _MARGIN + num_lines * _LINE_HEIGHT
    sheet_size = (left + _GAP + ways * cell_width + _MARGIN, top + sum(band_heights) + _GAP + _MARGIN)
    sheet = Image.new("RGB", sheet_size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(class_names):
        for line, text in enumerate(_title(name)):
            place = (left + _GAP + column * cell_width, _MARGIN + line * _LINE_HEIGHT)
            _centred(draw, text, place, cell_width - _GAP)
    for (text, colour, images), band_height in zip(bands, band_heights, strict=True):
        if not images.shape[1]:
            continue
        draw.rectangle((_MARGIN // 2, top, sheet.width - _MARGIN // 2 - 1, top + band_height - 1), fill=colour)
        draw.text((_MARGIN, top + band_height // 2), text, fill=_INK, font=_font(), anchor="lm")
        _paste(sheet, images, scale, left + _GAP, top + _GAP)
        top += band_height + _GAP
    return sheet


def _paste(sheet: Image, images: NDArray[np.uint8], scale: int, left: int, top: int) -> None:
    """Paste [columns, rows, height, width, channels] images as a grid."""
    from PIL import Image

    height, width = images.shape[2] * scale, images.shape[3] * scale
    for column, rows in enumerate(images):
        for row, image in enumerate(rows):
            colours = np.broadcast_to(image, (*image.shape[:2], 3))
            enlarged = Image.fromarray(np.ascontiguousarray(colours)).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left + column * (width + _GAP), top + row * (height + _GAP)))


@functools.cache
def _font() -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size=_FONT_SIZE)


def _title(name: str) -> list[str]:
    """Return the lines of a class name: of "alphabet/character" one each."""
    return name.rsplit("/", 1)


def _centred(draw: ImageDraw, text: str, place: tuple[int, int], width: int) -> None:
    """Write a text in the middle of a column whose top left corner is `place`, cut where it does not fit."""
    shown = text
    while len(shown) > 4 and _font().getlength(shown) > width:
        text = text[:-1]
        shown = text + "..."
    draw.text((place[0] + width // 2, place[1]), shown, fill=_INK, font=_font(), anchor="ma")


def save_sheet(sheet: Image, path: Path) -> None:
    """Write a sheet as PNG.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format="PNG")
    except OSError as error:
        raise DataError(str(path), expected="a file that can be written", got=str(error),
                        next_step="Give another: --out FILE.png") from error  # fmt: skip
