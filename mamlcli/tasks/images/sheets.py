"""Draw contact sheets: the images of one episode, or of predictions, in one picture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.disk import write_error
from mamlcli.common.errors import DataError
from mamlcli.common.files import whole_file
from mamlcli.common.words import one_line
from mamlcli.tasks.images.fonts import FACES, font_folder
from mamlcli.tasks.images.packs import Pack

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

# Okabe and Ito's green and vermilion; the wrong ones carry a cross as well, for those who see neither.
_RIGHT, _WRONG = "#009E73", "#D55E00"
_FRAME = 3
_MAX_ROWS = 12
_MAX_TITLE_LINES = 3


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
            "--ways",
            expected=f"at most the {len(class_names)} classes of the split",
            got=str(ways),
            next_step=f"Use --ways {len(class_names)}, or all classes: --split all",
        )
    generator = np.random.default_rng(seed)
    chosen = [class_names[index] for index in generator.choice(len(class_names), size=ways, replace=False)]
    drawn = []
    for name in chosen:
        indices = np.flatnonzero(pack.labels == pack.class_names.index(name))
        if len(indices) < shots + queries:
            raise DataError(
                f"class {name!r}",
                expected=f"at least {shots + queries} images (shots + queries)",
                got=str(len(indices)),
                next_step="Use fewer: --shots N --queries N",
            )
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


@dataclass(frozen=True)
class PredictedImage:
    """A predicted image is a query image in a sheet of predictions.

    Attributes:
        image: [height, width, channels], uint8.
        probability: of the class it stands under.
        is_right: whether that is its class; None where this is not known.
    """

    image: NDArray[np.uint8]
    probability: float
    is_right: bool | None = None


def prediction_sheet(
    support: Sequence[NDArray[np.uint8]], query: Sequence[Sequence[PredictedImage]], class_names: Sequence[str]
) -> Image:
    """Lay out predictions: one column for each class, its support images above, the images predicted as it below.

    Query images carry their probability; those that are right or wrong, where it is known, a green frame or a red
    one with a cross. Of more than 12 images in a column the rest is counted.

    Args:
        support: for each class [shots, height, width, channels], uint8; shots may differ.
        query: for each class the images predicted to be of it.
        class_names: for each class; what is too long is cut.
    """
    from PIL import Image, ImageDraw

    height, width = support[0].shape[1:3]
    scale = max(1, -(-_CELL_SIZE // min(height, width)))
    cell = (width * scale + _GAP + 2 * _FRAME, height * scale + _GAP + 2 * _FRAME)
    left = 3 * _MARGIN + round(max(_font().getlength(text) for text in ("support", "query")))
    rows = [min(max(len(images) for images in band), _MAX_ROWS) for band in (support, query)]
    more = [any(len(images) > _MAX_ROWS for images in band) * _LINE_HEIGHT for band in (support, query)]
    heights = [rows[0] * cell[1] + more[0] + 2 * _GAP, rows[1] * (cell[1] + _LINE_HEIGHT) + more[1] + 2 * _GAP]
    titles = [_folded(one_line(name), cell[0] - _GAP) for name in class_names]
    top = _MARGIN + max(map(len, titles)) * _LINE_HEIGHT + _GAP
    sheet = Image.new(
        "RGB", (left + len(class_names) * cell[0] + 2 * _MARGIN, top + sum(heights) + 2 * _MARGIN), _PAPER
    )
    draw = ImageDraw.Draw(sheet)
    bands = (("support", _SUPPORT, top, heights[0]), ("query", _QUERY, top + heights[0] + _GAP, heights[1]))
    for text, colour, start, band_height in bands:
        draw.rectangle((_MARGIN // 2, start, sheet.width - _MARGIN // 2 - 1, start + band_height - 1), fill=colour)
        draw.text((_MARGIN, start + band_height // 2), text, fill=_INK, font=_font(), anchor="lm")
    for column, lines in enumerate(titles):
        x = left + column * cell[0]
        for number, line in enumerate(lines):
            _centred(draw, line, (x, _MARGIN + number * _LINE_HEIGHT), cell[0] - _GAP)
        plain = [PredictedImage(image, float("nan")) for image in support[column]]
        _draw_column(sheet, plain, (x, bands[0][2] + _GAP), scale, 0)
        _draw_column(sheet, query[column], (x, bands[1][2] + _GAP), scale, _LINE_HEIGHT)
    return sheet


def _draw_column(
    sheet: Image, images: Sequence[PredictedImage], place: tuple[int, int], scale: int, text_height: int
) -> None:
    """Draw images one below the other, with their probability under each if `text_height` leaves room for it."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(sheet)
    x, y = place
    for shown in images[:_MAX_ROWS]:
        picture = _enlarged(shown.image, scale)
        right, bottom = x + picture.width + 2 * _FRAME - 1, y + picture.height + 2 * _FRAME - 1
        if shown.is_right is not None:
            draw.rectangle((x, y, right, bottom), fill=_RIGHT if shown.is_right else _WRONG)
        sheet.paste(picture, (x + _FRAME, y + _FRAME))
        if shown.is_right is False:
            size = 3 * _FRAME
            draw.rectangle((right - size - _FRAME, y, right, y + size + _FRAME), fill=_WRONG)
            draw.line((right - size, y + _FRAME, right - _FRAME, y + size), fill=_PAPER, width=2)
            draw.line((right - size, y + size, right - _FRAME, y + _FRAME), fill=_PAPER, width=2)
        if text_height:
            text = f"{shown.probability:.2f}"
            draw.text((x + picture.width // 2 + _FRAME, bottom + 1), text, fill=_INK, font=_font(), anchor="ma")
        y = bottom + 1 + _GAP + text_height
    if len(images) > _MAX_ROWS:
        more = f"+{len(images) - _MAX_ROWS}"
        _centred(draw, more, (x, y), images[0].image.shape[1] * scale + 2 * _FRAME)


def _folded(text: str, width: int) -> list[str]:
    """Break a text into at most three lines of a width; the last is longer if the text does not fit."""
    lines: list[str] = []
    while len(lines) < _MAX_TITLE_LINES - 1 and _font().getlength(text) > width:
        num = next(num for num in range(len(text), 0, -1) if num == 1 or _font().getlength(text[:num]) <= width)
        # Between words where there are some, else anywhere.
        num = max((index + 1 for index in range(num) if text[index] in " -_/."), default=num)
        lines.append(text[:num].rstrip())
        text = text[num:].lstrip()
    return [*lines, text]


def _enlarged(image: NDArray[np.uint8], scale: int) -> Image:
    from PIL import Image

    colours = np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
    size = (image.shape[1] * scale, image.shape[0] * scale)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def _paste(sheet: Image, images: NDArray[np.uint8], scale: int, left: int, top: int) -> None:
    """Paste [columns, rows, height, width, channels] images as a grid."""
    height, width = images.shape[2] * scale, images.shape[3] * scale
    for column, rows in enumerate(images):
        for row, image in enumerate(rows):
            sheet.paste(_enlarged(image, scale), (left + column * (width + _GAP), top + row * (height + _GAP)))


@functools.cache
def _font() -> FreeTypeFont | ImageFont:
    """Return a font with the letters of many scripts, which class names may be written in."""
    from PIL import ImageFont

    folder = font_folder()
    if folder is not None and (folder / FACES[0]).is_file():
        return ImageFont.truetype(str(folder / FACES[0]), _FONT_SIZE)
    return ImageFont.load_default(size=_FONT_SIZE)


def _title(name: str) -> list[str]:
    """Return the lines of a class name: of "alphabet/character" one each."""
    return one_line(name).rsplit("/", 1)


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
        with whole_file(path) as stream:
            sheet.save(stream, format="PNG")
    except OSError as error:
        raise write_error(
            error,
            str(path),
            expected="a file that can be written",
            next_step="Give another: --out FILE.png",
            kind=DataError,
        ) from error
