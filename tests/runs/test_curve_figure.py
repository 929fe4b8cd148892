"""The figure of an adaptation curve."""

from __future__ import annotations

import pytest
from PIL import Image

from mamlcli.common.figures import TWO_COLUMNS
from mamlcli.runs.curve_figure import save_curve
from tests.helpers.reports import curve_report


def test_png_and_svg_are_written_beside_each_other(tmp_path):
    paths = save_curve(curve_report(), tmp_path / "curve.png")
    assert [path.name for path in paths] == ["curve.png", "curve.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "curve.svg"]
    with Image.open(paths[0]) as image:
        assert image.width == round(TWO_COLUMNS * 220)
    assert paths[1].read_text().startswith("<?xml")


def test_users_matplotlib_settings_change_nothing(tmp_path):
    import matplotlib

    before = save_curve(curve_report(), tmp_path / "a.png")[1].read_bytes()
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "path", "lines.linewidth": 9}):
        after = save_curve(curve_report(), tmp_path / "b.png")[1].read_bytes()
        assert matplotlib.rcParams["font.size"] == 20
    assert before == after


def test_losses_that_differ_a_thousandfold_are_on_a_logarithmic_axis(tmp_path, monkeypatch):
    scales = []
    monkeypatch.setattr(
        "mamlcli.runs.curve_figure.save_figure", lambda figure, _: scales.append(figure.axes[-1].get_yscale()) or []
    )
    save_curve(curve_report((1.6, 0.5)), tmp_path / "a.png")
    save_curve(curve_report((1e6, 0.5, None)), tmp_path / "a.png")  # with one that overflowed
    assert scales == ["linear", "log"]


def test_panels_draw_query_support_and_references(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("mamlcli.runs.curve_figure.save_figure", lambda figure, _: drawn.append(figure) or [])
    save_curve(curve_report(), tmp_path / "a.png")
    accuracy, loss = drawn[0].axes
    lines = {line.get_label(): list(line.get_ydata()) for line in accuracy.lines}
    assert lines["query"] == pytest.approx([20.0, 40.0, 60.0, 80.0])
    assert lines["support"] == pytest.approx([30.0, 60.0, 90.0, 100.0])
    assert lines["nearest neighbour on pixels"] == pytest.approx([55.0, 55.0])
    assert lines["chance"] == pytest.approx([20.0, 20.0])
    assert {line.get_label() for line in loss.lines} == {"query", "support"}
