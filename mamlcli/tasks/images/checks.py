"""Check a pack and its class splits for all that would make a run fail or its results mislead."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mamlcli.tasks.images.packs import Pack

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class ImagePlace:
    """An image place says where an image stands in a pack.

    Attributes:
        image: its index in the pack, from 0.
        class_name: its class.
        split: of the class; None where it is in no split that is checked.
    """

    image: int
    class_name: str
    split: str | None

    def __str__(self) -> str:
        where = f"image {self.image}" if self.split is None else f"{self.split}, image {self.image}"
        return f"{self.class_name} ({where})"


SameImages: TypeAlias = tuple[ImagePlace, ...]


@dataclass(frozen=True)
class Finding:
    """A finding is one thing that a check has to say of a pack.

    Attributes:
        severity: "error": a command that uses what is named here fails; "warning": its results may mislead;
            "note": good to know.
        check: which check, a few words.
        message: what was found, one sentence.
        same: of duplicate images, all groups of images that are the same.
    """

    severity: str
    check: str
    message: str
    same: tuple[SameImages, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the finding as primitives; `same` only where there is any."""
        words = {"severity": self.severity, "check": self.check, "message": self.message}
        return {**words, **({"same": [[vars(place) for place in group] for group in self.same]} if self.same else {})}


def check_pack(pack: Pack, splits: Mapping[str, Sequence[str]], *, is_published: bool = False) -> list[Finding]:
    """Check a pack and the splits of its classes; errors come first.

    Args:
        pack: the images.
        splits: class names of each split to check; {} checks the pack alone.
        is_published: whether others compare results by these splits, so that images in two of them stay there.

    Returns:
        The findings. At least the class counts are always among them.
    """
    findings = _array_findings(pack)
    if not any(finding.severity == "error" for finding in findings):
        findings += _count_findings(pack, splits)
        findings += _split_findings(pack, splits)
        findings += _constant_findings(pack)
        findings += _duplicate_findings(pack, splits, is_published=is_published)
        findings += _twin_findings(pack, splits)
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _array_findings(pack: Pack) -> list[Finding]:
    images, labels, check = pack.images, pack.labels, "arrays"
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3):
        wanted = "uint8 [num_images, height, width, 1 or 3]"
        return [Finding("error", check, f"images are {images.dtype} {list(images.shape)}, not {wanted}")]
    if labels.shape != (len(images),) or not len(images):
        return [Finding("error", check, f"{len(images)} images have labels of shape {list(labels.shape)}")]
    if labels.min() < 0 or labels.max() >= pack.num_classes:
        got = f"{int(labels.min())} to {int(labels.max())}"
        return [Finding("error", check, f"labels are {got}, not in [0, {pack.num_classes})")]
    height, width = images.shape[1:3]
    if height != width:
        return [Finding("note", check, f"images are not square: {height} x {width}")]
    return []


def _count_findings(pack: Pack, splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    counts = pack.class_counts()
    spread = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    total = f"{len(pack.images)} images of {pack.num_classes} classes, {spread} each"
    findings = [Finding("note", "class counts", total)]
    for split, names in (splits or {"the pack": pack.class_names}).items():
        wanted = set(names)
        few = [name for name, count in zip(pack.class_names, counts, strict=True) if count < 2 and name in wanted]
        if few:
            message = f"{split}: {len(few)} classes with fewer than 2 images, too few for support and query: "
            findings.append(Finding("error", "class counts", message + _shown(few)))
    return findings


def _split_findings(pack: Pack, splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    findings: list[Finding] = []
    present = set(pack.class_names)
    split_of: dict[str, str] = {}
    for split, names in splits.items():
        missing = [name for name in names if name not in present]
        if not names:
            findings.append(Finding("error", "empty split", f"{split}: no classes"))
        elif missing:
            message = f"{split}: {len(missing)} of {len(names)} classes are not in the pack: "
            message += _shown(missing)
            findings.append(Finding("error", "missing classes", message))
        shared = [name for name in names if name in split_of]
        if shared:
            message = f"{split} and {split_of[shared[0]]} share {len(shared)} classes: {_shown(shared)}"
            findings.append(Finding("error", "overlap", message))
        split_of.update(dict.fromkeys(names, split))
    unused = [name for name in pack.class_names if name not in split_of]
    if len(splits) > 1 and unused:
        findings.append(Finding("note", "unused classes", f"{len(unused)} in no split: {_shown(unused)}"))
    return findings


def _constant_findings(pack: Pack) -> list[Finding]:
    flat = pack.images.reshape(len(pack.images), -1)
    constant = np.flatnonzero((flat == flat[:, :1]).all(axis=1))
    if not len(constant):
        return []
    names = [f"{pack.class_names[pack.labels[index]]} (image {index})" for index in constant]
    return [Finding("warning", "constant images", f"{len(constant)} of a single value: {_shown(names)}")]


def _duplicate_findings(pack: Pack, splits: Mapping[str, Sequence[str]], *, is_published: bool) -> list[Finding]:
    """Report images that are the same byte for byte: in two splits, in two classes, or twice in one class."""
    split_of = {name: split for split, names in splits.items() for name in names}
    across, between, within = list[SameImages](), list[SameImages](), list[SameImages]()
    for indices in _same_images(pack.images):
        names = [pack.class_names[pack.labels[index]] for index in indices]
        group = tuple(ImagePlace(i, name, split_of.get(name)) for i, name in zip(indices, names, strict=True))
        several_splits = len({place.split for place in group} - {None}) > 1
        (across if several_splits else between if len({*names}) > 1 else within).append(group)
    left = "They are left where the published split has them, so that results compare with others'"
    removal = "Remove one of each, or results on one split are partly on images of another"
    findings = []
    if across:
        message = f"{len(across)} images are in two splits: {_same(across)}. {left if is_published else removal}"
        findings.append(Finding("warning", "duplicate images", message, tuple(across)))
    if between:
        message = f"{len(between)} images are in two classes: {_same(between)}"
        findings.append(Finding("note", "duplicate images", message, tuple(between)))
    if within:
        message = f"{sum(len(group) - 1 for group in within)} repeat another image of their class"
        findings.append(Finding("note", "duplicate images", message, tuple(within)))
    return findings


def _same(groups: Sequence[Sequence[ImagePlace]]) -> str:
    return _shown([" = ".join(map(str, group)) for group in groups])


def _twin_findings(pack: Pack, splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Report drawings of a split that look like those of an earlier one: upright first, then turned ones."""
    from mamlcli.tasks.images.twins import TWIN_CORRELATION, near_twins  # loads torch, which lists do not need

    findings, twins = [], near_twins(pack, splits)
    for is_turned, words in ((False, "look like"), (True, "look, turned, like")):
        for split, names in splits.items():
            pairs = [
                f"{twin.name} ~ {twin.other} ({twin.other_split}, {twin.correlation:.2f})"
                for twin in twins
                if twin.split == split and (twin.quarter_turns > 0) == is_turned
            ]
            if pairs:
                message = f"{split}: {len(pairs)} of {len(names)} classes {words} one of another split "
                message += f"(mean drawings correlate above {TWIN_CORRELATION}): {_shown(pairs)}"
                findings.append(Finding("note", "near-twins", message))
    return findings


def _same_images(images: NDArray[np.uint8]) -> list[list[int]]:
    """Return the indices of images that are equal, one list for each image that is there more than once."""
    groups: dict[bytes, list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _shown(names: Sequence[str]) -> str:
    """Join the names: all of up to 25 (as many as one split of CIFAR-FS can lack), else the first 8."""
    most = 25 if len(names) <= 25 else 8
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
