"""Recipes, the code behind them, tables and figures share these closed sets of names. Nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

# Where runs go that are not told where, under the current folder.
RUNS = Path("runs")


SPLITS = ("train", "validation", "test")


# Values of inner.transform.name. What each name stands for: `transforms_by_name`, whose keys are these.
TransformName = Literal["none", "meta-sgd", "meta-curvature", "kfo", "kfo-mlp", "dense"]


TRANSFORMS: tuple[str, ...] = get_args(TransformName)


# Sources of images that come as a pack; `folder` is a source of images, too.
ImageSource = Literal["glyphs", "omniglot", "cifar-fs", "fc100", "mini-imagenet"]


IMAGE_SOURCES: tuple[str, ...] = get_args(ImageSource)


# The names of the class splits of each image source, the default first.
CLASS_SPLITS: dict[str, tuple[str, ...]] = {
    "glyphs": ("scripts",),
    "omniglot": ("vinyals", "seeded"),
    "cifar-fs": ("published",),
    "fc100": ("published",),
    "mini-imagenet": ("published",),
    "folder": ("folders", "seeded"),
}
