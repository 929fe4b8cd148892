"""Places: what the words of --on may be."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.studies.where.places import Place, place_of


@pytest.mark.parametrize(
    ("text", "kind", "argument"),
    [
        ("local", "local", ""),
        ("gpus", "gpus", ""),
        ("gpus:2", "gpus", "2"),
        ("slurm", "slurm", ""),
        ("slurm:big", "slurm", "big"),
        ("tcp://10.0.0.1:8786", "tcp", "//10.0.0.1:8786"),
    ],
)
def test_a_place_is_a_word_and_what_stands_after_its_colon(text, kind, argument):
    assert place_of(text) == Place(kind, argument)
    assert str(place_of(text)) == text


@pytest.mark.parametrize("text", ["", "cluster", "local:2", "tcp", "tcp:8786", "10.0.0.1:8786"])
def test_another_word_is_refused_with_the_forms_there_are(text):
    with pytest.raises(MamlError, match=r"--on: expected local, gpus\[:N\], slurm\[:PROFILE\] or tcp://HOST:PORT, got"):
        place_of(text)
