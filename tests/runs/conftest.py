"""Runs that were trained once for all tests of this folder."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.helpers.running import train_tiny


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Tiny runs, trained once; tests that change one copy it."""
    base = tmp_path_factory.mktemp("trained")
    validated = ("validation.every=1", "validation.tasks=2")
    train_tiny(base / "one", "logistic", *validated)
    train_tiny(base / "two", "logistic", "model.depth=2", "seed=1")
    train_tiny(base / "five", "logistic", "evaluation.tasks=5", *validated)
    train_tiny(base / "more-shots", "logistic", "tasks.shots=6")
    train_tiny(base / "other-tasks", "logistic", "evaluation.seed=1")
    train_tiny(base / "line", "linear-regression")
    return base


@pytest.fixture
def runs(trained, tmp_path):
    """A folder with copies of all of them."""
    return shutil.copytree(trained, tmp_path / "runs")


@pytest.fixture
def overflowed(runs):
    """Two runs; in the second one, the loss of the first task is not finite after the last inner step."""
    folder = runs / "one"
    report = json.loads((folder / "evaluation.json").read_text())
    steps = report["protocol"]["inner_steps"]
    lines = (folder / "tasks.csv").read_text().splitlines()
    lines[steps + 1] = f"0,{steps},inf,0.5,inf,0.5"
    (folder / "tasks.csv").write_text("\n".join(lines) + "\n")
    report["final"]["loss"] = {"mean": None, "ci95_over_tasks": None}
    (folder / "evaluation.json").write_text(json.dumps(report))
    return runs / "two", folder
