# ruff: noqa: RUF001 (letters that look alike are what these tests are about)
"""The choice of letters: covered by the font, of many scripts, and each shape once."""

from __future__ import annotations

import importlib.util
import sys
import unicodedata
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from PIL import Image, ImageDraw

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.letters import (
    FACES,
    SCRIPTS,
    choose_letters,
    covered_points,
    letter_faces,
    letter_shape,
    listed_letters,
    load_faces,
    shape_distances,
)


@pytest.fixture(scope="module")
def sans():
    return load_faces()[0]


@pytest.fixture(scope="module")
def listed():
    return {letter.char for letter in listed_letters()}


def inked(font, char):
    """Draw a letter by itself, cut to its ink: [height, width] float in [0, 1]."""
    canvas = Image.new("L", (240, 240))
    ImageDraw.Draw(canvas).text((60, 60), char, fill=255, font=font)
    box = canvas.getbbox()
    return None if box is None else canvas.crop(box)


def test_list_is_what_the_choice_gives(sans):
    # Regenerate mamlcli/tasks/splits/glyphs.json from mamlcli.tasks.images.letters.choose_letters(), code points by
    # script, if a rule of the choice changes (and raise GLYPHS_VERSION). Another FreeType moves outlines by
    # some thousandths of a letter, and pairs near a tolerance may then fall otherwise: hence 5 %, not zero.
    chosen = {letter.name for letter in choose_letters()}
    shipped = {letter.name for letter in listed_letters()}
    assert len(chosen ^ shipped) <= 0.05 * len(shipped)


def test_list_has_enough_letters_and_scripts():
    letters = listed_letters()
    assert len(letters) >= 600
    assert [*dict.fromkeys(letter.script for letter in letters)] == list(SCRIPTS)
    assert len(SCRIPTS) >= 12
    assert len({letter.name for letter in letters}) == len({letter.char for letter in letters}) == len(letters)


def test_every_letter_is_of_its_script_and_not_composed():
    for letter in listed_letters():
        assert unicodedata.name(letter.char).startswith(SCRIPTS[letter.script])
        assert not unicodedata.decomposition(letter.char)


@pytest.mark.parametrize("face", FACES)
def test_covered_points_agree_with_fonttools(face):
    folder = Path(importlib.util.find_spec("matplotlib").submodule_search_locations[0], "mpl-data", "fonts", "ttf")
    with TTFont(folder / face) as font:
        assert covered_points((folder / face).read_bytes()) == set(font.getBestCmap())


def test_no_letter_is_blank_or_the_empty_box(sans):
    box = inked(sans.font, "\U000f0000")  # private use: in no font
    assert box is not None
    for letter in listed_letters():
        drawn = inked(sans.font, letter.char)
        assert drawn is not None, letter.name
        assert drawn.size != box.size or drawn.tobytes() != box.tobytes(), letter.name


@pytest.mark.parametrize(
    "twins",
    [
        pytest.param("AΑАꓮ", id="A in Latin, Greek, Cyrillic, Lisu"),
        pytest.param("OoΟοОоՕօꓳⵔ", id="O in seven scripts and two cases"),
        pytest.param("BΒВꓐ", id="B"),
        pytest.param("KΚКкꓗ", id="K and small Cyrillic ka"),
        pytest.param("TΤТꓔ", id="T"),
        pytest.param("XxΧХхꓫⵝ", id="X in two cases"),
        pytest.param("PpΡРрꓑ", id="P in two cases"),
        pytest.param("CcСсϹⅭ", id="C in two cases"),
        pytest.param("HΗНн", id="H and small Cyrillic en"),
        pytest.param("lIΙІӀꓲ", id="I and l"),
        pytest.param("SsЅѕꓢ", id="S in two cases"),
        pytest.param("iıі", id="i with and without its dot"),
    ],
)
def test_look_alikes_appear_once(listed, twins):
    assert sum(char in listed for char in twins) <= 1


def test_lisu_keeps_none_of_the_latin_capitals(listed):
    # The Lisu letters that are Latin capitals as they stand; the others are turned ones.
    assert not listed.intersection("ꓐꓑꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ")


def test_arabic_letters_that_differ_in_dots_appear_once(listed):
    assert sum(char in listed for char in "بتثپٹ") <= 1
    assert sum(char in listed for char in "جحخچ") <= 1


def overlap(first, second):
    """Intersection over union of [n, 24, 24] boolean images, all pairs, at the best shift by one pixel."""
    best = 0.0
    flat = first.reshape(len(first), -1).astype(np.float32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            moved = np.roll(second, (down, right), axis=(1, 2)).reshape(len(second), -1).astype(np.float32)
            both = flat @ moved.T
            best = np.maximum(best, both / (flat.sum(1)[:, None] + moved.sum(1) - both))
    return best


def squares(font, chars):
    """Draw letters each stretched to the same square (an l not quite), [num_letters, 26, 26] bool."""
    drawn = []
    for char in chars:
        letter = inked(font, char)
        width = round(22 * letter.width / max(letter.width, letter.height // 3))
        square = Image.new("L", (26, 26))
        square.paste(letter.resize((width, 22)), ((26 - width) // 2, 2))
        drawn.append(np.asarray(square) > 127)
    return np.stack(drawn)


def test_no_shape_is_in_two_scripts(sans):
    # Another measure than the module's: letters laid over each other. The closest of two scripts are E and
    # the Tifinagh E with a small plus (0.90); the others, below 0.88, differ by a bar, a tail or a loop.
    letters = listed_letters()
    scripts = np.array([letter.script for letter in letters])
    drawn = squares(sans.font, [letter.char for letter in letters])
    same = np.where(scripts[:, None] == scripts, 0.0, overlap(drawn, drawn))
    worst = [letters[index].name for index in np.unravel_index(same.argmax(), same.shape)]
    assert same.max() < 0.93, worst


def test_measure_of_overlap_knows_look_alikes(sans):
    first, second = squares(sans.font, "AOTPXCBE"), squares(sans.font, "АОТРХСВЕ")
    assert overlap(first, second).diagonal().min() > 0.95


def test_shape_distance_is_small_for_twins_and_large_for_others(sans):
    shapes = [letter_shape(sans.font, char) for char in ("O", "О", "o", "X")]
    distance = shape_distances(shapes[:1], shapes)[0]
    assert distance[:3].max() < 0.3
    assert distance[3] > 1.0


def test_shape_without_marks_leaves_out_the_dots(sans):
    dotted, bare = (letter_shape(sans.font, char, with_marks=False) for char in ("Ï", "I"))
    assert dotted.has_marks
    assert not bare.has_marks
    np.testing.assert_allclose(dotted.half_size, bare.half_size, atol=0.3)  # hinting: a font pixel or so


def test_shape_half_pen_is_that_of_a_bar(sans):
    # l is a rectangle: from its sides inwards, distances average a quarter of its width (and half a font
    # pixel, as they are taken to the first pixel outside).
    shape = letter_shape(sans.font, "l")
    assert shape.half_pen == pytest.approx(shape.half_size[1] + 0.5 / shape.scale, rel=0.15)


def test_space_has_no_shape(sans):
    assert letter_shape(sans.font, " ") is None


def test_first_face_always_stands():
    faces = load_faces()
    assert len(letter_faces("A", faces)) >= 1
    assert len(letter_faces("ꓮ", faces)) == 1  # only the sans face has Lisu


def test_fonts_are_found_without_importing_matplotlib(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    load_faces()
    assert "matplotlib" not in sys.modules


@pytest.mark.parametrize("state", ["no matplotlib", "no fonts", "damaged fonts"])
def test_missing_fonts_name_the_next_command(monkeypatch, tmp_path, state):
    spec = ModuleSpec("matplotlib", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    fonts = tmp_path / "mpl-data" / "fonts" / "ttf"
    fonts.mkdir(parents=True)
    if state == "damaged fonts":
        for face in FACES:
            (fonts / face).write_bytes(b"\x00\x01\x00\x00")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if state == "no matplotlib" else spec)
    with pytest.raises(DataError, match="python -m pip install"):
        load_faces()
