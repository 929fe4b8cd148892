"""Says why a file is not read as an image, and what makes it one: a package to install, or a conversion."""

from __future__ import annotations

import contextlib
import functools
import importlib
from pathlib import Path

from mamlcli.common.bounded import BoundError, open_regular

_HEIF = "a HEIF (HEIC) photograph, for which a package is missing: pip install pillow-heif"
_RAW = "a raw camera file, which has no fixed look: develop it to JPEG or TIFF"
_JXL = "a JPEG XL image, which is not read: convert it to PNG"

# Files that people take for images, by their suffixes, with what to do about them. HEIF is read where pillow-heif is.
_RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
_BY_SUFFIX = {
    **dict.fromkeys(_RAW_SUFFIXES, _RAW),
    ".svg": "a drawing of lines, not of pixels: convert it to PNG at the size you want",
    ".jxl": _JXL,
    ".psd": "a Photoshop file: save it as PNG",
}
OTHER_SUFFIXES = (".heic", ".heif", ".hif", *_BY_SUFFIX)

# What a file begins with, whatever it is called.
_BY_FIRST_BYTES = {
    b"version https://git-lfs": "a Git LFS pointer, not the image: git lfs pull",
    b"<!DOCTYPE": "a web page, not an image: download it again",
    b"<!doctype": "a web page, not an image: download it again",
    b"<html": "a web page, not an image: download it again",
    b"<svg": _BY_SUFFIX[".svg"],
    b"8BPS": _BY_SUFFIX[".psd"],
    b"\xff\x0a": _JXL,
    b"\0\0\0\x0cJXL ": _JXL,
}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HEADER = 32  # bytes


@functools.cache
def register_optional_formats() -> None:
    """Make Pillow read HEIF files if pillow-heif is installed."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()


def reads_heif() -> bool:
    """Return whether this installation reads HEIF files."""
    from PIL import Image

    register_optional_formats()
    return "HEIF" in Image.OPEN


def kind_not_read(path: Path) -> str | None:
    """Return what a file is that is never read, by its suffix; None for all others.

    Raw files must not be tried: some hold a thumbnail that can be read.
    """
    return _BY_SUFFIX.get(path.suffix.lower())


def what_is_wrong(path: Path) -> str | None:
    """Return what a file is that could not be read, and what to do; None where its first bytes do not tell."""
    try:
        with open_regular(path) as stream:
            head = stream.read(_HEADER)
    except (OSError, BoundError):
        return None
    if not head:
        return "an empty file"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and not reads_heif():
        return _HEIF
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return _damaged_or_old("AVIF", "Pillow 11.3 or newer: pip install -U pillow")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _damaged_or_old("WEBP", "Pillow with WebP: pip install -U pillow")
    known = (words for start, words in _BY_FIRST_BYTES.items() if head.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(start))
    return next(known, None)


def _damaged_or_old(name: str, needed: str) -> str | None:
    """Return what is needed to read a format, None where it is here and the file is damaged."""
    from PIL import Image

    return None if name in Image.OPEN else f"an image of the format {name}, which needs {needed}"
