"""Tell what the name of a folder of images means: a split, nothing, something beside images, a part of a class."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPLIT_WORDS = {
    "train": ("train", "training", "trn", "base", "background"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst", "novel"),
}
_SPLIT_OF_WORD = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
# Test, but validation where something else is called test.
_EVALUATION = ("eval", "evaluation")
# Train, but nothing of its own where something else is called train.
_BOTH = ("trainval", "train-val")
# Words that are only added to the name of a split, as in meta_train, images_background, train-set.
_ADDED = {"meta", "images", "image", "img", "set", "split", "data", "classes", "class"}

# A folder of this name says nothing of the images in it: their class is told above or below it.
_PLAIN = {"images", "image", "img", "imgs", "jpg", "jpeg", "jpegs", "jpegimages", "png", "photos", "pictures", "data"}
# A folder of this name, beside one of images, is not itself one of classes.
_BESIDE = {"annotation", "annotations", "attributes", "parts", "segmentation", "segmentations", "mask", "masks"}
_BESIDE |= {"trimaps", "labels", "bboxes", "thumbs", "thumbnails", "lists", "splits"}
# Folders of these names, or named by a date, part the images of one class; they are no classes.
_PART = re.compile(
    r"((part|batch|session|set|view|camera|cam|seq|sequence|take|day|page|series|raw|full|crops?|left|right|front|back"
    r"|side|top|bottom|old|new|more|others?)[\W_]*\d*|[\W_\d]*(19|20)\d\d[\W_\d]*)"
)


def split_meant(name: str) -> str | None:
    """Return the split that the name of a folder means, as meta_train means train; None if it means none."""
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word and word not in _ADDED]
    word = re.sub(r"^meta|set$", "", "-".join(words))
    return "test" if word in _EVALUATION else "train" if word in _BOTH else _SPLIT_OF_WORD.get(word)


def _plain_name(name: str) -> str:
    return re.sub(r"[\W_]+", "-", name.lower())


def is_plain(name: str) -> bool:
    """Return whether a folder of this name, such as images or data, says nothing of what is in it."""
    return _plain_name(name) in _PLAIN


def are_no_classes(names: Iterable[str]) -> bool:
    """Return whether folders of these names are images of many classes, perhaps with masks or the like beside."""
    plain = {_plain_name(name) for name in names}
    return bool(plain & _PLAIN) and plain <= _PLAIN | _BESIDE


def is_beside(name: str) -> bool:
    """Return whether a folder of this name, such as masks, holds something beside the images of classes."""
    return _plain_name(name) in _BESIDE or _plain_name(name) in _BOTH


def is_part(name: str) -> bool:
    """Return whether folders of such names, as left and right, 2021 and 2022, part the images of one class."""
    return bool(_PART.fullmatch(name.lower())) or is_plain(name) or split_meant(name) is not None
