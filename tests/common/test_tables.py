"""Numbers, intervals, durations and curves as text."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

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
