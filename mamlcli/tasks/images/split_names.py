"""The names that folders and files of splits have, and the split that each means."""

from __future__ import annotations

from collections.abc import Iterable

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "base": "train",
    "background": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "novel": "test",
    "evaluation": "test",
    "eval": "test",
}


def split_of_words(words: Iterable[str]) -> str | None:
    """Return the split that one of the words means, such as "test" of meta and test; None if none or two are meant."""
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else None
