"""tasks.csv: the scores of every task at every inner step; scores.npy: those after the last one."""

from __future__ import annotations

import numpy as np
import pytest

from mamlcli.runs.scores_table import (
    SCORE_COLUMNS,
    final_scores_bytes,
    final_scores_in,
    scores_in,
    scores_text,
)


def table(num_tasks=3, num_points=2):
    """Return scores of that many tasks, [num_tasks, num_points, 4], each with a value of its own."""
    return np.arange(num_tasks * num_points * 4, dtype=np.float64).reshape(num_tasks, num_points, 4) / 8


def test_a_row_has_task_step_and_scores():
    lines = scores_text(table()).splitlines()
    assert lines[0] == "task,inner_step,support_loss,support_accuracy,query_loss,query_accuracy"
    assert lines[:0:-1][0] == "2,1,2.5,2.625,2.75,2.875"
    assert len(lines) == 1 + 3 * 2


def test_scores_are_read_back_to_nine_digits():
    scores = table() + 1 / 3
    scores[0, 0] = [np.inf, 0.0, np.nan, 1e-30]
    # Nine digits: half a unit of the ninth is 5e-9 of the first at most.
    assert np.allclose(scores_in(scores_text(scores).splitlines()), scores, rtol=5e-9, atol=0, equal_nan=True)


def test_columns_are_in_the_order_of_their_names():
    scores = scores_in(scores_text(table()).splitlines())
    assert scores[0, 0, SCORE_COLUMNS.index("query_loss")] == table()[0, 0, 2]


LINES = scores_text(table()).splitlines()
DAMAGED = {
    "empty": [],
    "without rows": LINES[:1],
    "cut": [*LINES[:-1], LINES[-1][:-8]],
    "text": ["a text"],
    "other columns": ["a,b", *LINES[1:]],
    "row missing": [*LINES[:3], *LINES[4:]],
    "last rows missing": LINES[:-1],
    "rows exchanged": [LINES[0], LINES[2], LINES[1], *LINES[3:]],
    "no numbers": [LINES[0], *(line.replace("0", "x") for line in LINES[1:])],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_table_that_is_not_whole_is_refused(kind):
    with pytest.raises(ValueError, match=r"missing|shape|inhomogeneous|convert"):
        scores_in(DAMAGED[kind])


def test_final_scores_are_read_back_in_float32_as_one_point_of_each_task():
    final = table()[:, -1] + 1 / 3
    final[0, 0] = np.inf
    found = final_scores_in(final_scores_bytes(final))
    assert found.shape == (3, 1, 4)
    assert np.array_equal(found[:, 0], final.astype(np.float32))


@pytest.mark.parametrize("shape", [(0, 4), (3, 5), (4,), (3, 1, 4)])
def test_final_scores_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="rows or columns are missing"):
        final_scores_in(final_scores_bytes(np.zeros(shape)))


@pytest.mark.parametrize("length", [0, 5, 100, 150])
def test_final_scores_that_are_cut_are_refused(length):
    data = final_scores_bytes(table()[:, -1])
    assert len(data) > 150
    with pytest.raises(ValueError):  # noqa: PT011 - numpy's own words
        final_scores_in(data[:length])
