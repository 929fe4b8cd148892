"""A child: what its process has in its environment, and how its jobs are told to stop. It loads no torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mamlcli.common.processes.child import Child, close_children
from mamlcli.common.processes.jobs import Job


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Stand in a folder of the test's own: a child finds no module in the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))


def environment(name, is_stopped):
    return os.environ.get(name)


def test_child_has_the_variables_that_it_is_given_beside_those_of_its_parent(monkeypatch):
    monkeypatch.setenv("OF_PARENT", "7")
    child = Child({"OWN": "2"})
    try:
        values = []
        for name in ("OWN", "OF_PARENT"):
            child.begin(Job(name, environment, name))
            values.append(child.finish(was_interrupted=False).value)
    finally:
        close_children([child])
    assert values == ["2", "7"]
