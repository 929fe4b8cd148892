"""Choose the letters that `glyphs` draws: letters of many scripts in matplotlib's fonts, each shape once.

Latin, Greek and Cyrillic share an A, Lisu is written in Latin capitals, and case often only scales a letter:
were such twins different classes, meta-test would hold shapes known from meta-training. So a letter is chosen
only if it looks like none chosen before. The choice depends on the last digit of outlines, so its result is
shipped (`splits/glyphs.json`): the classes, and with them the tasks, are the same on every machine.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from mamlcli.tasks.images.fonts import load_faces
from mamlcli.tasks.images.shapes import Shape, letter_shape, shape_distances

# Whole scripts to a split, so that meta-test scripts are unseen in training; each with the first words of its
# letters' Unicode names. The order also decides which script has a shape that several share: the first. So
# the letters of validation and test are those that look like no letter of meta-training.
SPLIT_SCRIPTS: dict[str, dict[str, str]] = {
    "train": {
        "Latin": "LATIN",
        "Greek": "GREEK",
        "Cyrillic": "CYRILLIC",
        "Coptic": "COPTIC",
        "Canadian Aboriginal": "CANADIAN SYLLABICS",
    },
    "validation": {
        "Armenian": "ARMENIAN",
        "Arabic": "ARABIC",
        "Tifinagh": "TIFINAGH",
        "Lisu": "LISU",
        "Old Italic": "OLD ITALIC",
    },
    "test": {"Georgian": "GEORGIAN", "Hebrew": "HEBREW", "Lao": "LAO", "NKo": "NKO", "Ogham": "OGHAM"},
}

SCRIPTS = {script: prefix for scripts in SPLIT_SCRIPTS.values() for script, prefix in scripts.items()}
_SKIPPED_WORDS = frozenset({"LIGATURE", "DIGRAPH", "IOTIFIED", "TONE"})  # two letters joined; tone marks
_MAX_HALF_PEN = 2.6  # a thicker stroke is a dot or an apostrophe blown up to the size of a letter
_MIN_LARGEST_PART = 0.35  # of the letter's size; less is a letter of dots alone, which reads as specks

# Two letters closer than this (`shape_distances`) count as one. From sheets of the nearest pairs: within a
# script, most pairs up to 0.44 are one letter to the eye (the upper half of an o, as U+1D12 and as U+1D16,
# 0.42) and from 0.46 on most are two (the Ogham letters of three and four strokes, 0.47). Across scripts,
# twins reach 0.53 (capital K and small Cyrillic ka, 0.52), and there a leak into meta-test costs more than a
# lost class. Upper and lower case are scaled copies of each other up to 0.92 (Y and y).
_TOLERANCE_SCRIPT = 0.45
_TOLERANCE_ACROSS = 0.54
_TOLERANCE_CASE = 0.95


@dataclass(frozen=True)
class Letter:
    """A letter belongs to a script; its `name`, as in "Greek/U+03BE", is the name of its class."""

    char: str
    script: str

    @property
    def name(self) -> str:
        return f"{self.script}/U+{ord(self.char):04X}"


def listed_letters() -> tuple[Letter, ...]:
    """Return the letters of the shipped list, the classes of `glyphs`, by script and code point."""
    text = (resources.files("mamlcli.tasks.images") / "splits" / "glyphs.json").read_text("utf-8")
    lists: dict[str, list[str]] = json.loads(text)
    return tuple(Letter(chr(int(code, 16)), script) for script, codes in lists.items() for code in codes)


def choose_letters() -> tuple[Letter, ...]:
    """Choose the letters that look like no other letter; the shipped list was made by this function."""
    face = load_faces()[0]
    letters, shapes = [], []
    for letter in candidates(face.covered):
        shape = letter_shape(face.font, letter.char, with_marks=False)
        if shape and shape.half_pen < _MAX_HALF_PEN and shape.largest_part >= _MIN_LARGEST_PART:
            letters.append(letter)
            shapes.append(shape)
    return tuple(letters[index] for index in sorted(_distinct(letters, shapes)))


def candidates(covered: Iterable[int]) -> list[Letter]:
    """Return the letters of each script, in its order, without those that Unicode builds from others.

    A decomposition marks accented letters, presentation forms (Arabic initial, medial, final) and
    mathematical alphabets: their base letters are there already. Modifier letters are small copies.
    """
    chars = [char for char in map(chr, sorted(covered)) if unicodedata.category(char) in ("Lu", "Ll", "Lo")]
    names = {char: unicodedata.name(char, "") for char in chars if not unicodedata.decomposition(char)}
    return [
        Letter(char, script)
        for script, prefix in SCRIPTS.items()
        for char, name in names.items()
        if name.startswith(f"{prefix} ") and not _SKIPPED_WORDS.intersection(name.split())
    ]


def _distinct(letters: Sequence[Letter], shapes: Sequence[Shape]) -> list[int]:
    """Return the indices of letters that look like none chosen before; in a script, unmarked letters go first."""
    order = list(SCRIPTS)
    script = np.array([order.index(letter.script) for letter in letters])
    upper = np.array([letter.char.upper() for letter in letters])
    tolerance = np.where(script[:, None] == script, _TOLERANCE_SCRIPT, _TOLERANCE_ACROSS)
    tolerance[upper[:, None] == upper] = _TOLERANCE_CASE
    distance = shape_distances(shapes, shapes)
    alike = np.minimum(distance, distance.T) < tolerance
    distinct: list[int] = []
    for index in sorted(range(len(letters)), key=lambda i: (script[i], shapes[i].has_marks, i)):
        if not alike[index, distinct].any():
            distinct.append(index)
    return distinct
