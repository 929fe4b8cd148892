"""Figures: at the size they are printed at, whole, legible without colour, the same bytes for the same result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from mamlcli.common import figures
from mamlcli.common.figures import (
    LAYER_SERIES,
    ONE_COLUMN,
    SERIES,
    TRANSFORM_SERIES,
    TWO_COLUMNS,
    figure_bytes,
    fit_loss_scale,
    keep_to_percent,
    legend_below,
    new_figure,
    printed_figure,
    save_figure,
    set_title,
)
from mamlcli.common.names import TRANSFORMS
from mamlcli.common.statistics import Estimate, Score
from mamlcli.runs.curve_figure import save_curve
from mamlcli.runs.report import Protocol
from mamlcli.studies.layers.figure import save_layers
from mamlcli.studies.layers.optimum import OperatorComparison, OptimumReport
from mamlcli.studies.layers.results import (
    BottomRow,
    LayersReport,
    MovementRow,
    OperatorReport,
    PartialRow,
    PartScore,
)
from mamlcli.studies.sweeps.figure import save_study_figure
from mamlcli.studies.sweeps.result import ClosedForm
from tests.helpers.reports import PROTOCOL, curve_report
from tests.helpers.studies import depth_result, grid_result


def optimizer_result():
    names = ("none", "meta-sgd", "meta-curvature", "kfo", "kfo-mlp")
    cells = tuple(replace(grid_result().cells[0], value=name) for name in names)
    return replace(grid_result(), axis="inner.transform.name", cells=cells, comparisons=())


def regression_result():
    def without_accuracy(cell):
        return replace(cell, curve=tuple(replace(p, scores=only(p.scores, "loss")) for p in cell.curve))

    closed = ClosedForm(0.1, 5, 0.2, Score(0.3), 0.25, 0.1, 0.0)
    cells = tuple(map(without_accuracy, depth_result().cells))
    return replace(depth_result(), cells=cells, closed_form=closed, chance_accuracy=None)


def only(scores, metric):
    return replace(scores, values={metric: scores.values[metric]})


def layers_report(*, has_operator=True):
    names = ("body.0", "body.1", "body.2", "body.3", "head.0")
    moved = Estimate(0.1, 0.05, 600)
    loss = PartScore(Estimate(0.5, 0.05, 600), moved)
    best = OperatorComparison(np.diag([9.0, 4.0, 1.0]), 0.0, 1.0, 0.0, 0.1)
    optimum = OptimumReport(optimal=best, plain=best, one_step=best, all_steps=best, all_steps_explained=0.9)
    return LayersReport(
        run="run",
        recipe="glyphs-5way-1shot",
        weights="last",
        protocol=Protocol.from_json(PROTOCOL),
        movement=tuple(MovementRow(name, 10, 10, 1.0, moved, moved) for name in names),
        partial=tuple(
            PartialRow(part, num, names[:num], loss, PartScore(Estimate(0.1 * num, 0.05, 600), moved))
            for part in ("lower", "upper")
            for num in range(len(names) + 1)
        ),
        operator=OperatorReport(0.1, "none", (), None, optimum) if has_operator else None,
        operator_note=None,
        bottom=tuple(
            BottomRow(names[:num], False, 4, 4, 100, 0.9, Estimate(80.0, 3.0, 600), Estimate(num / 2, 0.1, 600))
            for num in range(1, len(names))
        ),
        collapse=None,
    )


# Name -> what draws it into a folder.
DRAWN = {
    "curve": lambda folder: save_curve(curve_report(), folder / "curve.png"),
    "curve of a regression": lambda folder: save_curve(curve_report(has_accuracy=False), folder / "curve.png"),
    "depth": lambda folder: save_study_figure(depth_result(), folder),
    "depth of a regression": lambda folder: save_study_figure(regression_result(), folder),
    "optimizers": lambda folder: save_study_figure(optimizer_result(), folder),
    "grid": lambda folder: save_study_figure(grid_result(), folder),
    "layers": lambda folder: save_layers(layers_report(), folder),
    "layers without operator": lambda folder: save_layers(layers_report(has_operator=False), folder),
}


def draw(name, folder):
    """Draw a figure, and return it with its bytes of each kind."""
    drawing = {}

    def keep(figure, kind):
        drawing["figure"], drawing[kind] = figure, figure_bytes(figure, kind)
        return drawing[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mamlcli.common.figures.figure_bytes", keep)
        DRAWN[name](folder)
    return drawing


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return each figure by its name, drawn once."""
    return cache(lambda name: draw(name, tmp_path_factory.mktemp("figures")))


def shown_texts(figure):
    """Return all texts but the labels of ticks, some of which lie outside the axes and are not drawn."""
    axises = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    ticks = {id(label) for axis in axises for label in axis.get_ticklabels(which="both")}
    ticks |= {id(label) for axis in axises for tick in axis.get_major_ticks() for label in (tick.label1, tick.label2)}
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in shown if id(text) not in ticks]


@pytest.mark.parametrize("name", DRAWN)
def test_figure_is_whole_and_legible_at_its_printed_width(drawn, name):
    figure = drawn(name)["figure"]
    assert figure.get_figwidth() in (ONE_COLUMN, TWO_COLUMNS)
    with figures.print_style():
        figure.canvas.draw()
    whole = figure.bbox.padded(1.0)  # a pixel: rounding of the layout
    for text in figure.findobj(Text):
        assert text.get_fontsize() >= 8, text
    for text in shown_texts(figure):
        box = text.get_window_extent()
        assert whole.x0 <= box.x0, text
        assert box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0, text
        assert box.y1 <= whole.y1, text


@pytest.mark.parametrize("name", DRAWN)
def test_axes_are_labelled_and_intervals_explained(drawn, name):
    figure = drawn(name)["figure"]
    for axes in figure.axes:
        if axes.axison:
            assert axes.get_ylabel(), axes
            assert axes.get_xlabel() or any(other.get_xlabel() for other in axes.get_shared_x_axes().get_siblings(axes))
    title = " ".join(figure.get_suptitle().split())
    assert "95 % interval" in title


@pytest.mark.parametrize("name", DRAWN)
def test_lines_of_a_panel_differ_without_colour(drawn, name):
    for axes in drawn(name)["figure"].axes:
        named = [line for line in axes.lines if not line.get_label().startswith("_")]
        looks = [(str(line.get_marker()), str(line._unscaled_dash_pattern)) for line in named]
        assert len(set(looks)) == len(looks), looks


@pytest.mark.parametrize("name", ["curve", "grid"])
def test_same_result_gives_the_same_bytes(drawn, name, tmp_path):
    first, second = drawn(name), draw(name, tmp_path)
    assert first["svg"] == second["svg"]
    assert first["png"] == second["png"]
    text = first["svg"].decode()
    assert "<dc:date>" not in text
    # Text that stays text: it can be searched, and set in the page's font.
    assert re.search(r"<text [^>]*>(query|inner steps|depth|depth 1)</text>", text)


def test_every_series_differs_in_colour_marker_and_dashes():
    for part in zip(*SERIES, strict=True):
        assert len(set(map(str, part))) == len(SERIES)


def test_every_transform_has_a_look_and_the_first_of_them_have_their_own():
    assert set(TRANSFORM_SERIES) == set(TRANSFORMS)
    assert len(set(TRANSFORM_SERIES.values())) == min(len(TRANSFORMS), len(SERIES))


def test_layers_are_shades_of_one_colour_that_start_from_plain_gradients():
    assert LAYER_SERIES[0] == TRANSFORM_SERIES["none"]
    for part in zip(*LAYER_SERIES, strict=True):
        assert len(set(map(str, part))) == len(LAYER_SERIES)
    for red, green, blue in (to_rgb(series.color) for series in LAYER_SERIES):
        assert blue > green > red - 1e-9


def test_new_figure_needs_no_display():
    assert new_figure(2.0, 1.0).get_size_inches().tolist() == [2.0, 1.0]


def test_figure_is_saved_as_png_and_svg_whatever_the_suffix(tmp_path):
    paths = save_figure(new_figure(1.0, 1.0), tmp_path / "a.pdf")
    assert [path.name for path in paths] == ["a.png", "a.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"<?xml")


def test_title_is_folded_to_the_width_of_the_figure_and_keeps_its_lines():
    figure = printed_figure(ONE_COLUMN, 2.0)
    set_title(figure, "first\n" + "word " * 20)
    lines = figure.get_suptitle().splitlines()
    assert lines[0] == "first"
    assert len(lines) > 2
    assert max(map(len, lines)) <= ONE_COLUMN * 15.5


def test_legend_names_a_series_of_two_panels_once():
    figure = new_figure(4.0, 2.0)
    panels = figure.subplots(1, 2)
    for axes in panels:
        axes.plot([0, 1], label="both")
    panels[1].plot([1, 0], label="right")
    legend_below(figure, panels, ncols=3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["both", "right"]


def test_panels_without_series_have_no_legend():
    figure = new_figure(4.0, 2.0)
    legend_below(figure, [figure.subplots()], ncols=3)
    assert figure.legends == []


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([1.0, 999.0], "linear"), ([1.0, 1001.0], "log"), ([0.0, 1.0, float("inf")], "linear"), ([], "linear")],
)
def test_losses_that_differ_a_thousandfold_are_on_a_logarithmic_scale(losses, scale):
    axes = new_figure(2.0, 2.0).subplots()
    fit_loss_scale(axes, losses)
    assert axes.get_yscale() == scale


@pytest.mark.parametrize(("limits", "shown"), [((-40, 160), (-2, 102)), ((20, 80), (20, 80))])
def test_accuracies_are_shown_between_0_and_100_per_cent(limits, shown):
    axes = new_figure(2.0, 2.0).subplots()
    axes.set_ylim(*limits)
    keep_to_percent(axes)
    assert axes.get_ylim() == shown


@pytest.mark.parametrize("name", ["$a$_b", r"\$x$", "$$", "100 %", "a_b^c", "_hidden", "{x}"])
def test_a_name_in_a_title_is_no_formula(name):
    figure = new_figure(3, 2)
    set_title(figure, f"{name}: 5-way")
    svg = figure_bytes(figure, "svg").decode()
    assert f">{name}: 5-way</text>" in svg


def test_a_name_that_the_font_lacks_or_with_control_characters_draws_without_a_warning():
    figure = new_figure(6, 2)
    set_title(figure, "\u5b57\U0001f600\x1b[1m\nsecond")
    assert figure_bytes(figure, "png")
    assert "\\x1b[1m" in figure_bytes(figure, "svg").decode()


# A process of its own: matplotlib is asked for its folder once, when it is imported.
NO_HOME = """
import logging, os, pwd, sys
def nobody(uid): raise KeyError(uid)
pwd.getpwuid = nobody
before = dict(os.environ)
from mamlcli.common.figures import has_matplotlib_folder, prepare
assert not has_matplotlib_folder()
prepare()
import matplotlib
assert matplotlib.get_cachedir() == matplotlib.get_configdir() == sys.argv[1], matplotlib.get_cachedir()
assert dict(os.environ) == before
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no list of users")
@pytest.mark.parametrize("configured", [None, "file"])
def test_figures_need_no_home_and_leave_the_environment(tmp_path, configured):
    (tmp_path / "file").touch()
    names = ("HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "USER", "LOGNAME", "LNAME", "USERNAME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    if configured:
        environment["MPLCONFIGDIR"] = str(tmp_path / configured)
    command = [sys.executable, "-c", NO_HOME, str(tmp_path / "cache" / "mamlcli" / "matplotlib")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
