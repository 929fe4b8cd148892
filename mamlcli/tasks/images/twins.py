"""Find near-twins: classes of drawings in different splits that look the same, upright or turned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from mamlcli.tasks.images.packs import Pack

# Mean drawings of two classes that correlate more than this count as twins. The means of two halves of one class's
# drawings correlate by 0.87 (Omniglot) to 0.90 (glyphs) in the median, and above 0.94 in fewer than one class of ten.
# Twins are as alike as drawings of one class.
TWIN_CORRELATION = 0.92

# Side of the image that drawings are shrunk to: coarse, so that a stroke moved by a pixel or two still meets itself.
SIDE = 14


@dataclass(frozen=True)
class Twin:
    """A twin is a class that looks like a class of another split.

    Attributes:
        name, split: the class.
        other, other_split: the class of an earlier split that is most like it.
        correlation: of the mean drawings, above `TWIN_CORRELATION`.
        quarter_turns: by which `other` is turned to be most like it, 0 to 3.
    """

    name: str
    split: str
    other: str
    other_split: str
    correlation: float
    quarter_turns: int


def near_twins(pack: Pack, splits: Mapping[str, Sequence[str]]) -> list[Twin]:
    """Return the classes that look like one of an earlier split, the most alike first; each class once.

    Compared are the classes' mean drawings, shrunk to 14 x 14, by the correlation of pixels, at four quarter turns.

    Args:
        pack: square drawings with one channel; of others nothing is returned, as means of photographs are all alike.
        splits: class names of each split; classes that the pack lacks are left out.

    Source: none; the threshold is our choice.
    """
    height, width, channels = pack.images.shape[1:]
    if channels != 1 or height != width:
        return []
    label_of = {name: label for label, name in enumerate(pack.class_names)}
    present = {split: [name for name in names if name in label_of] for split, names in splits.items()}
    twins: list[Twin] = []
    earlier: list[tuple[str, str]] = []
    means = _mean_drawings(pack)
    turned = [_normalised(torch.rot90(means, turns, dims=(1, 2))) for turns in range(4)]
    for split, names in present.items():
        if names and earlier:
            rows, columns = [label_of[name] for name in names], [label_of[name] for _, name in earlier]
            correlations = torch.stack([turned[0][rows] @ images[columns].T for images in turned], dim=-1).flatten(1)
            best, places = correlations.max(dim=1)
            for row in (best > TWIN_CORRELATION).nonzero().flatten().tolist():
                other_split, other = earlier[int(places[row]) // 4]
                twins.append(Twin(names[row], split, other, other_split, float(best[row]), int(places[row]) % 4))
        earlier += [(split, name) for name in names]
    return sorted(twins, key=lambda twin: -twin.correlation)


def _mean_drawings(pack: Pack) -> torch.Tensor:
    """Return the mean drawing of each class, [num_classes, side, side] float32; zeros where a class has none."""
    images: NDArray[np.uint8] = pack.images[..., 0]
    sums = torch.zeros(pack.num_classes, *images.shape[1:])
    sums.index_add_(0, torch.from_numpy(pack.labels.astype(np.int64)), torch.from_numpy(images).float())
    side = min(SIDE, images.shape[1])
    return adaptive_avg_pool2d(sums.unsqueeze(1), side).squeeze(1)  # a correlation does not change with the scale


def _normalised(drawings: torch.Tensor) -> torch.Tensor:
    """Return drawings with mean 0 and length 1, [num_classes, side^2]; one of a single value becomes zeros."""
    flat = drawings.flatten(1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    normalised: torch.Tensor = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return normalised
