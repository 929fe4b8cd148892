"""Fonts of matplotlib: found without importing it, read as fonttools reads them, missed in one sentence."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec

import pytest
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.fonts import FACES, covered_points, font_folder, load_faces


@pytest.mark.parametrize("face", FACES)
def test_covered_points_agree_with_fonttools(face):
    path = font_folder() / face
    with TTFont(path) as font:
        assert covered_points(path.read_bytes()) == set(font.getBestCmap())


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
