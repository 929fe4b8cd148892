"""Figures as a report holds them, and the learned operators."""

from dataclasses import replace

import numpy as np

from mamlcli.common.figures import SERIES, new_figure
from mamlcli.studies.claims.figures import draw_operators, picture
from mamlcli.studies.layers.optimum import OperatorComparison, OptimumReport


def test_operators_are_scaled_to_the_best_one_and_those_that_are_not_known_are_left_out():
    best, learned = (OperatorComparison(np.diag(d), 0.0, scale, 0.0, 0.1) for d, scale in (([8, 4], 1), ([4, 1], 2)))
    report = OptimumReport(best, best, None, learned, 0.9)
    axes = new_figure(2.0, 2.0).subplots()
    draw_operators(axes, {"depth 1": [report], "depth 2": [replace(report, all_steps=None)]}, SERIES)
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines if line.get_label()[0] != "_"}
    assert drawn == {"best operator": [8, 4], "depth 1": [8, 2]}


def test_without_a_finite_operator_nothing_is_drawn_and_the_best_is_that_of_any_run():
    best = OperatorComparison(np.eye(2), 0.0, 1.0, 0.0, 0.1)
    axes = new_figure(2.0, 2.0).subplots()
    draw_operators(axes, {"depth 1": []}, SERIES)
    assert not axes.lines
    draw_operators(axes, {"depth 1": [], "depth 2": [OptimumReport(best, best, None, best, 0.9)]}, SERIES)
    assert [line.get_label() for line in axes.lines if line.get_label()[0] != "_"] == ["best operator", "depth 2"]


def test_picture_holds_both_kinds_of_file_and_the_narrow_layout_if_there_is_one():
    figure = new_figure(1.0, 1.0)
    drawn = picture("study", figure, "caption", figure)
    assert (drawn.name, drawn.caption) == ("study.png", "caption")
    assert drawn.png.startswith(b"\x89PNG")
    assert drawn.narrow.startswith(b"\x89PNG")
    assert b"<svg" in drawn.svg
    assert picture("study", figure, "caption").narrow == b""
