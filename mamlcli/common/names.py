"""Recipes, the code behind them, tables and figures share these closed sets of names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

# The folder of runs for which no other one is given, below the current folder.
RUNS = Path("runs")


# The key of a recipe with the place of its images.
PATH_KEY = "tasks.path"


SPLITS = ("train", "validation", "test")


# The split of the meta-train classes that `tasks.held_back` keeps for meta-validation.
HELD_BACK = "held-back"


# What `evaluation.split` may be.
SCORED_SPLITS = (*SPLITS, HELD_BACK)


# Values of inner.transform.name. `transforms_by_name`, whose keys these are, says what each stands for.
TransformName = Literal["none", "meta-sgd", "meta-curvature", "kfo", "kfo-mlp", "dense"]


TRANSFORMS: tuple[str, ...] = get_args(TransformName)


# Sources of images that come as a pack; `folder` is a source of images, too.
ImageSource = Literal["glyphs", "omniglot", "cifar-fs", "fc100", "mini-imagenet"]


IMAGE_SOURCES: tuple[str, ...] = get_args(ImageSource)


# Sources whose images are grey.
GREY_SOURCES = ("glyphs", "omniglot")


# Channels, height and width of the images of sources that have one size; packs of other sources may be of any size.
IMAGE_SHAPES: dict[str, tuple[int, int, int]] = {"glyphs": (1, 28, 28), "cifar-fs": (3, 32, 32), "fc100": (3, 32, 32)}


# Values of tasks.augment.
Augmentation = Literal["flip", "crop", "colour"]


# The reference that depends on a run's weights; the others depend on the tasks alone.
LINEAR_PROBE = "linear probe on features"


# The names of the class splits of each image source, the default first.
CLASS_SPLITS: dict[str, tuple[str, ...]] = {
    "glyphs": ("scripts",),
    "omniglot": ("vinyals", "seeded"),
    "cifar-fs": ("published",),
    "fc100": ("published",),
    "mini-imagenet": ("published",),
    "folder": ("folders", "seeded"),
}
