"""Reads and writes the table in tasks.csv: the scores of every task at every inner step.

A trained model that ships with the package has those after the last inner step alone, in scores.npy.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# The columns of tasks.csv after task and inner step, and of the scores of a run: [num_tasks, num_inner_steps + 1, 4].
SCORE_COLUMNS = ("support_loss", "support_accuracy", "query_loss", "query_accuracy")


FINAL_SCORES = "scores.npy"


_HEADER = ["task", "inner_step", *SCORE_COLUMNS]


def scores_text(scores: NDArray[np.float64]) -> str:
    """Return scores as the content of tasks.csv, with nine digits each.

    Args:
        scores: [num_tasks, num_inner_steps + 1, 4], columns as `SCORE_COLUMNS`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    for task, points in enumerate(scores):
        for inner_step, values in enumerate(points):
            writer.writerow([task, inner_step, *(f"{value:.9g}" for value in values)])
    return text.getvalue()


def scores_in(lines: Iterable[str]) -> NDArray[np.float64]:
    """Return the scores in the lines of tasks.csv: [num_tasks, num_inner_steps + 1, 4].

    Raises:
        ValueError: the table is not whole.
    """
    rows = iter(lines)
    header, first = next(rows, "").rstrip("\r\n"), next(rows, "")
    if header != ",".join(_HEADER) or not first.strip():
        raise ValueError("rows or columns are missing")
    try:
        table = np.loadtxt(itertools.chain([first], rows), delimiter=",", comments=None, ndmin=2)
    except ValueError as error:
        if "columns changed" not in str(error):
            raise
        # numpy's words for a row of another length suggest an argument of its own.
        raise ValueError("rows or columns are missing") from error
    num_tasks, num_points = (int(table[:, column].max()) + 1 for column in (0, 1))
    if table.shape != (num_tasks * num_points, len(_HEADER)):
        raise ValueError("rows or columns are missing")
    expected = np.stack(np.divmod(np.arange(num_tasks * num_points), num_points), axis=1)
    if not np.array_equal(table[:, :2], expected):
        raise ValueError("rows are missing or out of order")
    return table[:, 2:].reshape(num_tasks, num_points, len(SCORE_COLUMNS))


def final_scores_bytes(scores: NDArray[np.float64]) -> bytes:
    """Return the scores after the last inner step, [num_tasks, 4], as the content of scores.npy, in float32."""
    out = io.BytesIO()
    np.save(out, scores.astype("<f4"), allow_pickle=False)
    return out.getvalue()


def final_scores_in(data: bytes) -> NDArray[np.float64]:
    """Return the scores in the content of scores.npy: [num_tasks, 1, 4], of the last inner step.

    Raises:
        ValueError: the table is not whole.
    """
    try:
        table: NDArray[np.float64] = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float64)
    except EOFError as error:
        raise ValueError(str(error)) from error
    if table.ndim != 2 or table.shape[1] != len(SCORE_COLUMNS) or not len(table):
        raise ValueError("rows or columns are missing")
    return table[:, None]
