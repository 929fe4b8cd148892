"""The figure of a study: which numbers are drawn where, and under which names."""

from dataclasses import replace

import numpy as np
import pytest

from mamlcli.common.statistics import Score
from mamlcli.studies.sweeps.cell_result import CapacityRecord
from mamlcli.studies.sweeps.figure import save_study_figure
from mamlcli.studies.sweeps.result import ClosedForm
from tests.helpers.studies import depth_result, grid_result, over_tasks


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw a result and return the figure, which is not saved."""
    figures = []
    monkeypatch.setattr("mamlcli.studies.sweeps.figure.save_figure", lambda figure, path: figures.append(figure) or [])

    def draw(result):
        save_study_figure(result, tmp_path)
        return figures[-1]

    return draw


def lines(axes):
    """Return the drawn series of a panel, (x, y) by name."""
    names = {}
    for container in axes.containers:
        names[container.get_label()] = tuple(np.asarray(part, dtype=float) for part in container[0].get_data())
    return names


def test_accuracy_after_adaptation_stands_over_the_values_in_per_cent(drawn):
    figure = drawn(depth_result())
    x, y = lines(figure.axes[0])["meta-learned, after adaptation"]
    assert x.tolist() == [0, 1]
    assert y == pytest.approx([60.0, 70.0])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "2"]
    assert figure.axes[0].get_xlabel() == "depth"


def test_every_value_has_an_adaptation_curve(drawn):
    figure = drawn(depth_result())
    curves = lines(figure.axes[2])
    assert list(curves) == ["depth 1", "depth 2"]
    assert curves["depth 2"][1] == pytest.approx([50.0, 70.0])


def test_capacity_arm_is_named_by_its_examples(drawn):
    record = CapacityRecord(over_tasks(accuracy=0.9, loss=0.1), {}, 1000, 5, 5, 300)
    cells = (replace(depth_result().cells[0], capacity=record), depth_result().cells[1])
    x, y = lines(drawn(replace(depth_result(), cells=cells)).axes[0])["each task alone, 1000 examples"]
    assert (x.tolist(), y.tolist()) == ([0], [90.0])


def test_closed_forms_are_drawn_with_the_loss_alone(drawn):
    closed = ClosedForm(0.1, 5, 0.2, Score(0.3), 0.25, 0.1, 0.0)
    figure = drawn(replace(depth_result(), closed_form=closed))
    label = "one layer, closed form (endless support)"
    accuracy, loss = (axes.get_legend_handles_labels()[1] for axes in figure.axes[:2])
    assert label in loss
    assert label not in accuracy


def test_grid_has_a_line_for_each_optimizer_and_its_advantage_over_the_first(drawn):
    scores, advantages = drawn(grid_result()).axes[:2]
    assert lines(scores)["kfo"][1] == pytest.approx([65.0, 75.0])
    assert list(lines(advantages)) == ["kfo"]
    assert lines(advantages)["kfo"][1] == pytest.approx([5.0, 2.0])
    assert advantages.get_ylabel() == "difference to none (accuracy, points)"


def test_files_are_written_beside_each_other(tmp_path):
    paths = save_study_figure(depth_result(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    assert {path.name for path in paths} == {"figure.png", "figure.svg"}
