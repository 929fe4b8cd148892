"""The figures of a reproduction: which numbers are drawn where."""

from dataclasses import replace

import numpy as np
import pytest

from mamlcli.studies.claims.figures import operators_figure, picture, study_figure
from mamlcli.studies.layers.optimum import OperatorComparison, OptimumReport
from mamlcli.studies.sweeps.scores import GridValue
from tests.helpers.studies import grid_result


def with_layers():
    """The grid, and depth 1 with one and with three appended layers."""
    first = grid_result().cells[0]
    stacked = [replace(first, value=GridValue(1, "none", layers)) for layers in (1, 3)]
    return replace(grid_result(), cells=(*grid_result().cells, *stacked))


def series(axes):
    return {container.get_label(): container[0].get_data() for container in axes.containers}


def test_score_against_depth_has_a_line_for_each_transform_and_a_mark_for_appended_layers():
    drawn = series(study_figure(with_layers(), "glyphs, MAML").axes[0])
    assert set(drawn) == {"no transform", "kfo", "depth 1 + 1 linear layer", "depth 1 + 3 linear layers"}
    x, y = drawn["kfo"]
    assert x == pytest.approx([1.025, 2.025])
    assert y == pytest.approx([65.0, 75.0])
    assert drawn["depth 1 + 3 linear layers"][1] == pytest.approx([60.0])


def test_curves_are_those_without_a_transform():
    drawn = series(study_figure(with_layers(), "glyphs, MAML").axes[1])
    assert set(drawn) == {"depth 1", "depth 2", "depth 1 + 1 linear", "depth 1 + 3 linear"}
    assert drawn["depth 2"][1] == pytest.approx([50.0, 70.0])


def test_title_says_what_the_intervals_are_over():
    assert study_figure(grid_result(), "w").get_suptitle().endswith("95 % interval over 3 seeds")
    one_seed = replace(grid_result(), seeds=(0,))
    assert study_figure(one_seed, "w").get_suptitle().endswith("95 % interval over the tasks of one seed")


def test_operators_are_scaled_to_the_best_one_and_those_that_are_not_known_are_left_out():
    best, learned = (OperatorComparison(np.diag(d), 0.0, scale, 0.0, 0.1) for d, scale in (([8, 4], 1), ([4, 1], 2)))
    report = OptimumReport(best, best, None, learned, 0.9)
    unknown = replace(report, all_steps=None)
    axes = operators_figure({"depth 1": [report], "depth 2": [unknown]}).axes[0]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn == {"best operator D*": [8, 4], "depth 1": [8, 2]}


def test_picture_holds_both_kinds_of_file():
    drawn = picture("study", study_figure(grid_result(), "w"), "caption")
    assert (drawn.name, drawn.caption) == ("study.png", "caption")
    assert drawn.png.startswith(b"\x89PNG")
    assert b"<svg" in drawn.svg
