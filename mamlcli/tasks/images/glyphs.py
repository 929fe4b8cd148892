"""Draw the glyphs, an image set that needs no download: letters of many scripts, as if by many hands.

A class is one letter shape (see `letters`) and its group is the script. Each class has twenty instances, each
with its own typeface, slant, proportions, pen and smooth bending, as Omniglot has twenty hands.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import DataError
from mamlcli.common.files import cache_dir
from mamlcli.common.seeds import key_seed
from mamlcli.common.words import nearest
from mamlcli.tasks.images.fonts import FACES, FONT_PIXELS, load_faces
from mamlcli.tasks.images.letters import SCRIPTS, SPLIT_SCRIPTS, listed_letters
from mamlcli.tasks.images.packs import Pack, PackSource, find_pack, load_pack, save_pack
from mamlcli.tasks.images.shapes import FloatArray, Shape, letter_faces

# Raise it with every change, here or in `letters` and `shapes`, that alters a pixel or a class: it names the cached
# file.
GLYPHS_VERSION = 1
NUM_INSTANCES = 20  # per class, as in Omniglot
IMAGE_SIZE = 28  # pixels, the size to which Omniglot is usually brought
_NUM_KNOTS = 4  # the bending is drawn at 4 x 4 knots
_NUM_HAND_DRAWS = 7  # rotation, slant, two proportions, two shifts, pen


def load_glyphs(seed: int = 0) -> Pack:
    """Return the glyphs of a seed: read from the user's cache, or drawn (a few seconds) and kept there.

    Raises:
        DataError: they must be drawn, and matplotlib's fonts are missing or damaged.
    """
    name = f"glyphs-v{GLYPHS_VERSION}-seed{seed}"
    cached = cache_dir() / f"{name}.npz"
    for path in dict.fromkeys((find_pack(name) or cached, cached)):
        pack = _read(path, seed)
        if pack is not None:
            return pack
    pack = render_glyphs(seed)
    # The cache only saves time: a folder that cannot be written, or a full disk, must not stop a run.
    with contextlib.suppress(DataError, OSError):
        save_pack(pack, cached)
    return pack


def _read(path: Path, seed: int) -> Pack | None:
    """Return the pack at `path`, or None if it is missing, damaged, or of another version or seed."""
    if not os.path.isfile(path):
        return None
    try:
        pack = load_pack(path)
    except DataError:
        return None
    same = (pack.source.record.get("version"), pack.source.record.get("seed")) == (GLYPHS_VERSION, seed)
    return pack if same and pack.class_groups is not None else None


def glyph_splits(pack: Pack) -> dict[str, tuple[str, ...]]:
    """Return the class names of "train", "validation" and "test", split by script (`SPLIT_SCRIPTS`)."""
    classes = list(zip(pack.class_names, pack.class_groups or (), strict=True))
    return {
        split: tuple(name for name, script in classes if script in scripts) for split, scripts in SPLIT_SCRIPTS.items()
    }


def render_glyphs(
    seed: int = 0, *, scripts: Iterable[str] = tuple(SCRIPTS), num_instances: int = NUM_INSTANCES
) -> Pack:
    """Draw the glyphs; the same arguments give the same bytes (under the same FreeType library).

    Instance i of a class is drawn from a generator keyed by (version, seed, class name, i), so a part of the
    set equals that part of the whole.

    Args:
        seed: names the set of instances; the classes are the same for every seed.
        scripts: draw only the classes of these scripts.
        num_instances: images per class.

    Returns:
        A pack with images [num_classes * num_instances, 28, 28, 1] uint8, 255 = ink, class after class, and
        with the scripts as groups.

    Raises:
        DataError: a script is unknown, or matplotlib's fonts are missing or damaged.
    """
    wanted = set(scripts)
    for script in sorted(wanted - set(SCRIPTS)):
        raise DataError(
            "glyphs",
            expected=f"scripts among {', '.join(SCRIPTS)}",
            got=repr(script),
            next_step=nearest(script, SCRIPTS).strip() or None,
        )
    letters = [letter for letter in listed_letters() if letter.script in wanted]
    faces = load_faces()
    images = [
        _draw(letter_faces(letter.char, faces), (seed, letter.name), num_instances=num_instances) for letter in letters
    ]
    return Pack(
        images=np.concatenate(images)[..., None],
        labels=np.repeat(np.arange(len(letters), dtype=np.int64), num_instances),
        class_names=tuple(letter.name for letter in letters),
        class_groups=tuple(letter.script for letter in letters),
        source=_source(seed),
    )


def _source(seed: int) -> PackSource:
    record = {
        "name": "glyphs",
        "version": GLYPHS_VERSION,
        "seed": seed,
        "fonts": list(FACES),
        "licence": "Bitstream Vera and DejaVu fonts licence (LICENSE_DEJAVU, beside the fonts in matplotlib)",
        "citation": "DejaVu fonts, https://dejavu-fonts.github.io",
        "preprocessing": f"letters drawn at {FONT_PIXELS} pixels, look-alikes removed; each instance "
        f"with its own typeface, affine map, bending and pen; {IMAGE_SIZE}x{IMAGE_SIZE}, 255 = ink",
    }
    return PackSource(record)


def _draw(shapes: Sequence[Shape], key: tuple[int | str, ...], *, num_instances: int) -> NDArray[np.uint8]:
    """Draw instances of one letter, [num_instances, 28, 28], each from a generator keyed by its number."""
    seeds = [key_seed("glyphs", GLYPHS_VERSION, *key, index) for index in range(num_instances)]
    num_draws = 1 + _NUM_HAND_DRAWS + 2 * _NUM_KNOTS**2
    draws = np.stack([np.random.Generator(np.random.PCG64(seed)).random(num_draws) for seed in seeds])
    chosen = (draws[:, 0] * len(shapes)).astype(int)
    images = np.empty((num_instances, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    for index, shape in enumerate(shapes):
        images[chosen == index] = _deform(shape, draws[chosen == index, 1:])
    return images


def _deform(shape: Shape, draws: FloatArray) -> NDArray[np.uint8]:
    """Draw one image of a letter for each row of random numbers.

    Pixel p shows the letter at matrix^-1 (p + bending(p) - shift). The strengths were set by trial: a person
    reads every letter, and the nearest neighbour in pixels is right for 56 % (5-way 1-shot, test scripts).

    Args:
        shape: the letter.
        draws: [num_images, 7 + 2 * 4 * 4], uniform in [0, 1): rotation, slant, two proportions, two shifts, pen;
            then the bending.

    Returns:
        [num_images, 28, 28] uint8, 255 = ink.
    """
    signed = 2.0 * draws - 1.0
    matrix = _affine(signed[:, :4])
    # Nothing is clipped: a letter that became too long shrinks, and moves only as far as there is room.
    reach = np.abs(matrix) @ shape.half_size
    size = np.minimum(11.5 / reach.max(axis=1), 1.05)
    room = np.clip(12.0 - reach * size[:, None], 0.0, 1.5)
    line = np.arange(IMAGE_SIZE) - (IMAGE_SIZE - 1) / 2.0
    grid = np.stack(np.meshgrid(line, line, indexing="ij"))
    moved = grid + _bending(signed[:, _NUM_HAND_DRAWS:]) - (signed[:, 4:6] * room)[:, :, None, None]
    points = np.einsum("nij,njhw->inhw", np.linalg.inv(matrix * size[:, None, None]), moved)
    # All letters have the same range of half widths, as far as at most 40 % is taken away, which spares their
    # hairlines, and little is added, which spares their narrow counters.
    pen = np.clip(0.7 + 0.7 * draws[:, 6] - shape.half_pen, -0.4 * shape.half_pen, 0.3)
    ink = np.clip(0.5 + pen[:, None, None] - shape.sample(points), 0.0, 1.0)
    images: NDArray[np.uint8] = np.rint(255.0 * ink).astype(np.uint8)
    return images


def _affine(signed: FloatArray) -> FloatArray:
    """Return rotation @ slant @ proportions, [num_images, 2, 2], for draws [num_images, 4] in [-1, 1)."""
    angle_rad, slant = np.deg2rad(12.0) * signed[:, 0], 0.2 * signed[:, 1]
    down, right = np.exp(0.15 * signed[:, 2]), np.exp(0.15 * signed[:, 3])
    cos, sin, zero = np.cos(angle_rad), np.sin(angle_rad), np.zeros_like(slant)
    rotation = np.stack([cos, -sin, sin, cos], axis=1).reshape(-1, 2, 2)
    slanted = np.stack([down, zero, slant * down, right], axis=1).reshape(-1, 2, 2)
    return np.asarray(rotation @ slanted)


def _bending(signed: FloatArray) -> FloatArray:
    """Return smooth displacements in pixels, [num_images, 2, 28, 28], from draws [num_images, 2 * 4 * 4].

    A pixel takes the Gaussian-weighted mean of the knots around it, so some 1.5 pixels at most.
    """
    knots = np.linspace(0.0, IMAGE_SIZE - 1.0, _NUM_KNOTS)
    weights = np.exp(-0.5 * ((np.arange(IMAGE_SIZE)[:, None] - knots) / 6.0) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    drawn = 3.0 * signed.reshape(-1, 2, _NUM_KNOTS, _NUM_KNOTS)
    return np.asarray(np.einsum("hk,nckl,wl->nchw", weights, drawn, weights))
