"""Names that many modules share: closed sets of recipes and data, and the folder of runs."""

from __future__ import annotations

from pathlib import Path

# Where runs go that are not told where, under the current folder.
RUNS = Path("runs")

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
