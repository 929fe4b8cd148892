"""Runs that are trained once for all tests of the folder, and images to classify with them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from mamlcli.runs.folder import RunDirectory
from tests.helpers.exported_runs import train_one_of_each
from tests.helpers.image_files import class_folders, drawing, noise, save
from tests.helpers.predictions import TRAINING
from tests.helpers.running import train_tiny


@pytest.fixture(scope="module", autouse=True)
def leave_threads():
    """Building a run sets the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Three runs whose data is gone: of drawings (light on dark), of colour noise, and of noise with group norm."""
    root = tmp_path_factory.mktemp("runs")
    for index in range(6):
        for number in range(4):
            save(root / "ink" / f"c{index}" / f"{number}.png", drawing(16, seed=10 * index + number))
    class_folders(root / "noise", [f"c{index}" for index in range(6)])
    made = {}
    for name, data, more in (
        ("drawings", "ink", ["tasks.channels=1", "tasks.invert=auto"]),
        ("colour", "noise", []),
        ("group", "noise", ["model.norm=group"]),
    ):
        run = train_tiny(root / name, "folder", f"tasks.path={root / data}", *TRAINING, *more)
        made[name] = RunDirectory.open(run.path)
    shutil.rmtree(root / "ink")
    shutil.rmtree(root / "noise")
    return made


@pytest.fixture
def run(runs):
    return runs["colour"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder of small runs, one of every kind of task."""
    return train_one_of_each(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def folders(tmp_path):
    """A support set of three classes with one, two and three images, and a query set of known classes."""
    for index, name in enumerate("abc"):
        for number in range(3):
            image = noise(12, 12, 3, seed=50 + index)
            changed = np.clip(image.astype(int) + number, 0, 255).astype(np.uint8)
            if number <= index:
                save(tmp_path / "support" / name / f"{number}.png", changed)
            brighter = np.clip(changed.astype(int) + 5, 0, 255).astype(np.uint8)
            save(tmp_path / "query" / name / f"q{number}.png", brighter)
    return tmp_path


@pytest.fixture
def pages(tmp_path):
    """Drawings on white paper in support, the same on black in query."""
    for index, name in enumerate("abc"):
        page = drawing(16, seed=90 + index)
        save(tmp_path / "support" / name / "0.png", page)
        save(tmp_path / "query" / name / "q.png", 255 - page)
    return tmp_path
