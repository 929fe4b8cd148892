"""Lost and changed lines of the metrics are noticed, and a file is rewound without being held."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from mamlcli.runs.metrics import metrics_line
from mamlcli.runs.metrics_check import MetricsMark, StepCount, noticed_in, rewound


def line(iteration, kind="step"):
    return metrics_line({"kind": kind, "iteration": iteration, "outer_loss": 0.5})


LINES = [line(iteration) for iteration in range(1, 9)]


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(LINES))
    return path


@pytest.fixture
def mark():
    made = MetricsMark()
    made.add("".join(LINES[:6]).encode())
    return made.to_json()


def test_lines_that_follow_what_was_noted_are_no_change(metrics, mark):
    assert noticed_in(metrics, mark, 8) == []
    metrics.write_text("".join(LINES[:6]) + '{"kind": "st')
    assert noticed_in(metrics, mark, 6) == []


CHANGES = {
    "the records of 2 steps are missing (iteration 3 to 4)": [*LINES[:2], *LINES[4:]],
    "the records of 3 steps are missing (iteration 2, 6 to 7)": [LINES[0], *LINES[2:5], LINES[7]],
    "the records of 8 steps are missing (iteration 1 to 8)": [],
    "1 step recorded twice": [*LINES[:2], *LINES[1:]],
    "1 line without a record": [LINES[0], "x\n", *LINES[1:]],
    "lines were changed after they were written": [LINES[0].replace("0.5", "0.4"), *LINES[1:]],
}


@pytest.mark.parametrize("words", CHANGES)
def test_what_was_lost_or_changed_is_told(metrics, mark, words):
    metrics.write_text("".join(CHANGES[words]))
    assert noticed_in(metrics, mark, 8) == [words]


def test_a_file_that_is_gone_is_told_and_a_run_of_an_earlier_version_is_not(metrics, mark):
    assert noticed_in(metrics, None, 100) == []
    metrics.unlink()
    assert noticed_in(metrics, mark, 8) == ["the file is missing"]


def test_rewinding_keeps_the_bytes_of_lines_before_the_checkpoint(metrics):
    metrics.write_text("".join([*LINES, line(8, "validation"), '{"kind": "st']))
    mark, count = rewound(metrics, iteration=6, last_validated=0)
    assert metrics.read_text() == "".join(LINES[:6])
    assert noticed_in(metrics, mark.to_json(), 6) == []
    assert count.words() == []


def test_rewinding_tells_of_gaps_and_of_lines_that_hold_no_record(metrics):
    metrics.write_text("".join([LINES[0], "x\n", *LINES[3:]]))
    words = rewound(metrics, iteration=6, last_validated=0)[1].words()
    assert words == ["the records of 2 steps are missing (iteration 2 to 3)", "1 line without a record"]
    assert metrics.read_text() == "".join([LINES[0], *LINES[3:6]])


def test_a_run_without_metrics_has_lost_what_its_checkpoint_has_done(tmp_path):
    assert rewound(tmp_path / "metrics.jsonl", iteration=0, last_validated=0)[1].words() == []
    words = rewound(tmp_path / "metrics.jsonl", iteration=2, last_validated=0)[1].words()
    assert words == ["the records of 2 steps are missing (iteration 1 to 2)"]


def test_many_gaps_are_counted_and_the_first_are_named():
    count = StepCount()
    count.see([{"kind": "step", "iteration": iteration} for iteration in range(2, 21, 2)])
    assert count.words() == ["the records of 10 steps are missing (iteration 1, 3, 5 and others)"]


def test_a_long_file_is_never_held(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(iteration) for iteration in range(1, 100_001)))
    tracemalloc.start()
    try:
        rewound(path, iteration=100_000, last_validated=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A piece of a mebibyte has some 16,000 lines, whose records take 500 bytes each; the whole file would take 60 MB.
    assert peak < 20e6


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_rewound_file_has_the_mode_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        rewound(tmp_path / "metrics.jsonl", iteration=0, last_validated=0)
    finally:
        os.umask(before)
    assert (tmp_path / "metrics.jsonl").stat().st_mode & 0o777 == 0o666 & ~umask
