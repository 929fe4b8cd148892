"""An image set is what one of the readers of files found: images, their classes, splits, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mamlcli.tasks.images.reading import Preprocessing


@dataclass
class ImageSet:
    """An image set is a labelled set of images before it becomes a pack.

    Attributes:
        images: [num_images, height, width, channels], uint8, channels 1 or 3.
        labels: [num_images], int64, each in [0, num_classes).
        class_names: unique, in the order of the labels.
        preprocessing: how files became images.
        class_groups: the group of each class by its name; empty if there are none.
        class_splits: class names under "train", "validation", "test"; None if the files do not say.
        skipped: (file, reason) for everything that was not taken.
        notes: what else is worth a warning, each one sentence.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    class_groups: dict[str, str] = field(default_factory=dict)
    class_splits: dict[str, list[str]] | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
