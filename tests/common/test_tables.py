"""Numbers, intervals, durations and curves as text."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mamlcli.common.statistics import Score
from mamlcli.common.tables import PERCENT, duration, number_text, plain_table, sparkline, with_interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Score(0.5, 0.125), "0.500 ± 0.125"),
        (Score(0.5), "0.500"),
        (Score(None), "-"),
        (None, "-"),
        ({}, "-"),
        ({"mean": 0.5, "ci95_over_tasks": 0.125}, "0.500 ± 0.125"),
        ({"mean": 0.5, "ci95_over_seeds": 0.25}, "0.500 ± 0.250"),
        ({"mean": None, "ci95_over_tasks": None}, "-"),
    ],
)
def test_score_is_shown_with_its_interval_or_as_a_dash(value, text):
    assert with_interval(value) == text


def test_accuracy_is_shown_in_per_cent():
    assert with_interval(Score(0.5, 0.0125), scale=PERCENT, digits=1) == "50.0 ± 1.2"


def test_number_of_dozens_of_digits_is_shown_short():
    assert with_interval(Score(123456789.0, 1e300)) == "1.2e+08 ± 1.0e+300"
    assert number_text(99999.0) == "99999.000"


@pytest.mark.parametrize(("value", "text"), [(math.nan, "-"), (math.inf, "-"), (0.25, "25.00")])
def test_number_that_is_not_finite_is_a_dash(value, text):
    assert number_text(value, scale=PERCENT, digits=2) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (90000, "25.0 h")],
)
def test_duration_is_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def test_table_pastes_as_text_without_borders():
    table = plain_table("title")
    table.add_column("name")
    table.add_row("a")
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(table)
    lines = [line.strip() for line in console.export_text().splitlines()]
    assert lines[0] == "title"
    assert [line for line in lines if line and not set(line) <= {"─"}] == ["title", "name", "a"]


def test_sparkline_is_lowest_at_the_minimum_and_highest_at_the_maximum():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3, 3]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([1, float("nan"), 2, float("inf")]) == "▁·█·"


def test_sparkline_averages_what_is_longer_than_its_width():
    # Means of (0, 1), (2, 3), (4, 5), (6, 7): 0.5, 2.5, 4.5, 6.5, at 0, 1/3, 2/3, 1 of the height.
    assert sparkline(range(8), 4) == "▁▃▆█"
    assert len(sparkline(range(1000), 33)) == 33


def test_sparkline_with_bounds_keeps_to_them():
    assert sparkline([0.0, 0.5, 1.0], low=0.0, high=1.0) == "▁▅█"
    assert sparkline([0.9, 1.0], low=0.0, high=1.0) == "▇█"
    assert sparkline([-5, 5], low=0.0, high=1.0) == "▁█"


def _long_table(num_rows: int) -> Table:
    table = plain_table(caption="a caption that is longer than the table is wide\nand another line of it")
    table.add_column("run", overflow="fold")
    table.add_column("recipe", min_width=9)
    table.add_column("score", justify="right", no_wrap=True)
    for number in range(num_rows):
        table.add_row(Text(f"folder-{number}/", style="dim"), "", "")
        table.add_row("  本-1", "linear", Text("12.5 ± 0.3", style="red"))
    return table


def _text_of(table: Table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [120, 40, 20])  # the last is too narrow for a row in one line
@pytest.mark.parametrize("num_rows", [1, 60])
def test_many_rows_are_laid_out_as_rich_lays_out_few(width, num_rows):
    ours, of_rich = _long_table(num_rows), _long_table(num_rows)
    of_rich.__class__ = Table
    assert _text_of(ours, width) == _text_of(of_rich, width)


@pytest.mark.parametrize("text", [Text("two\nlines"), Text.assemble("a ", ("part", "red"))])
def test_a_long_table_with_a_cell_of_several_lines_or_styles_is_laid_out_by_rich(text):
    ours, of_rich = _long_table(60), _long_table(60)
    of_rich.__class__ = Table
    for table in (ours, of_rich):
        table.add_row(text, "", "1")
    assert _text_of(ours, 80) == _text_of(of_rich, 80)


def test_many_rows_are_laid_out_without_rich(monkeypatch):
    def fail(*args: object) -> None:
        raise AssertionError("laid out cell by cell")

    monkeypatch.setattr(Table, "__rich_console__", fail)
    assert "folder-59/" in _text_of(_long_table(60), 80)
