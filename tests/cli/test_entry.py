"""What the entry point answers before a command is read; the rest is tested as a user sees it, in `test_main`."""

from __future__ import annotations

import pytest

from mamlcli.cli.entry import refuse_keys_as_options
from mamlcli.common.errors import RecipeError


@pytest.mark.parametrize("word", ["--inner.lr=1", "-outer.lr=2", "--seed=3"])
def test_key_as_an_option_is_refused(word):
    with pytest.raises(RecipeError, match=r"command line: expected key\.path=value, got"):
        refuse_keys_as_options(["train", word])


@pytest.mark.parametrize("word", ["inner.lr=1", "--device", "--seeds=3", "./--inner.lr"])
def test_other_words_are_left_to_the_commands(word):
    refuse_keys_as_options(["train", word])
