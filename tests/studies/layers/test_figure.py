"""The figure of `mamlcli layers`: which numbers are drawn where."""

import pytest

from mamlcli.common.errors import RunError
from mamlcli.studies.layers.figure import save_layers
from mamlcli.studies.layers.report import layers_report


@pytest.fixture
def report(deep):
    return layers_report(deep, num_tasks=8)


@pytest.fixture
def drawn(report, tmp_path, monkeypatch):
    """The figure of the report of a linear stack, which is not saved."""
    figures = []
    monkeypatch.setattr("mamlcli.studies.layers.figure.save_figure", lambda figure, path: figures.append(figure) or [])
    save_layers(report, tmp_path / "figures")
    return figures[0]


def test_bars_are_the_distances_by_the_size_of_each_layer(report, drawn):
    axes = drawn.axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([row.relative.mean for row in report.movement])
    assert [label.get_text() for label in axes.get_xticklabels()] == [row.layer for row in report.movement]


def test_lower_and_upper_layers_have_a_curve_each(report, drawn):
    axes = drawn.axes[1]
    for container, part in zip(axes.containers, ("lower", "upper"), strict=True):
        rows = [row for row in report.partial if row.part == part]
        assert container.get_label() == f"only the {part}"
        assert container[0].get_xdata() == pytest.approx([row.num_layers for row in rows])
        assert container[0].get_ydata() == pytest.approx([row.loss.value.mean for row in rows])


def test_panel_of_bottom_layers_is_left_out_where_all_above_is_linear(report, drawn):
    assert all(row.upper_is_linear for row in report.bottom)
    titles = [axes.get_title("left") for axes in drawn.axes if axes.axison]
    assert [title[0] for title in titles] == ["1", "2", "3"]


def test_folder_that_cannot_be_made_is_an_error_that_names_the_option(report, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match=r"taken: expected a folder that can be written.*Name another with --out"):
        save_layers(report, tmp_path / "taken")
