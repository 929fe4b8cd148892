"""One picture, saved in every format and mode that image files have."""

from __future__ import annotations

import numpy as np
from PIL import Image


def rotated(image, path):
    """Save a picture upside down, with a note of it that readers turn it by."""
    exif = Image.Exif()
    exif[0x0112] = 3
    image.rotate(180).save(path, exif=exif, quality=100, subsampling=0)


def alpha(image, path):
    """Save a picture with a channel of full opacity."""
    image = image.convert("RGBA")
    image.putalpha(255)
    image.save(path)


# By the suffix of the file: how a picture is saved.
SAVED = {
    "png": lambda image, path: image.save(path),
    "jpg": lambda image, path: image.save(path, quality=100, subsampling=0),
    "bmp": lambda image, path: image.save(path),
    "tiff": lambda image, path: image.save(path),
    "webp": lambda image, path: image.save(path, lossless=True),
    "gif": lambda image, path: image.save(path),
    "palette.png": lambda image, path: image.quantize(256).save(path),
    "grey.png": lambda image, path: image.convert("L").save(path),
    "bit.png": lambda image, path: image.convert("1").save(path),
    "alpha.png": alpha,
    "deep.png": lambda image, path: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path),
    "cmyk.jpg": lambda image, path: image.convert("CMYK").save(path, quality=100),
    "rotated.jpg": rotated,
    "large.png": lambda image, path: image.resize((360, 360), Image.Resampling.NEAREST).save(path),
}
