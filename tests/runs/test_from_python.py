"""Runs are compared from Python as by the command."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import mamlcli
from mamlcli.common.errors import RunError
from mamlcli.runs.comparison import compare_runs
from mamlcli.runs.entry import read_run


def test_runs_are_compared_by_path_or_as_train_returns_them(trained):
    expected = compare_runs([read_run(trained / "one"), read_run(trained / "two")]).to_json()
    found = mamlcli.compare(SimpleNamespace(path=trained / "one"), str(trained / "two"))
    assert found.to_json() == expected
    assert found.comparisons[0].difference.mean is not None


def test_what_is_no_run_is_named(trained):
    with pytest.raises(RunError, match="expected a run directory"):
        mamlcli.compare(trained / "one", trained / "none")
