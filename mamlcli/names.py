"""Closed sets of names that recipes and data share."""

from __future__ import annotations

SPLITS = ("train", "validation", "test")

IMAGE_SOURCES = ("glyphs", "omniglot", "cifar-fs", "fc100", "mini-imagenet")

# The names of the class splits of each image source, the default first.
CLASS_SPLITS: dict[str, tuple[str, ...]] = {
    "glyphs": ("scripts",),
    "omniglot": ("vinyals", "seeded"),
    "cifar-fs": ("published",),
    "fc100": ("published",),
    "mini-imagenet": ("published",),
    "folder": ("folders", "seeded"),
}
