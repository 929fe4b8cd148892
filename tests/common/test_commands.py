"""Suggested commands: each word is one argument of a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mamlcli.common.commands import command


@pytest.mark.parametrize(
    "word", ["plain", "my exp", "a'b", 'a"b', "$HOME", "a;b", "[red]", "*", "~x", "", "tasks.path=my photos"]
)
def test_each_word_is_one_argument(word: str) -> None:
    assert shlex.split(command("train", word)) == ["mamlcli", "train", word]


def test_paths_are_words() -> None:
    assert command("adapt", Path("runs/my exp-1")) == "mamlcli adapt 'runs/my exp-1'"
