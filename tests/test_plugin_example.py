"""The example of a plug-in is installed as a user would, and passes its own tests there, in processes of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mamlcli
from tests.helpers.plugins import EXAMPLE

ROOT = Path(mamlcli.__file__).parents[1]


@pytest.fixture(scope="module", name="place")
def place_fixture(tmp_path_factory):
    """Install a copy of the example by pip, without the network."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    words = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *words, "--target", folder / "site", folder / "source"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def ran(place: Path, *words: str) -> subprocess.CompletedProcess:
    paths = os.pathsep.join([str(place / "site"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *words], cwd=place, env=environment, capture_output=True, text=True)


def test_example_passes_its_own_tests(place):
    done = ran(place, "-m", "pytest", "-q", "-p", "no:cacheprovider", "source/tests")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_commands_know_its_names(place):
    assert "gated-steps" in ran(place, "-m", "mamlcli", "recipes", "ls").stdout
    assert "height: 1.0" in ran(place, "-m", "mamlcli", "recipes", "show", "gated-steps", "--resolved").stdout
    assert '"gated"' in ran(place, "-m", "mamlcli", "recipes", "schema").stdout
    code = (
        "from mamlcli.cli.completion import recipe_words as words\n"
        "print(words(['gated-steps'], 'model.', default='sinusoid'))"
    )
    assert "model.depth=" in ran(place, "-c", code).stdout


def test_cells_of_a_study_run_in_processes_by_the_names_of_the_recipe(place):
    small = ["outer.iterations=2", "outer.tasks=2", "evaluation.tasks=4", "validation.every=null", "inner.steps=1"]
    words = ["gated-steps", *small, "--depths", "1,2", "--optimizers", "none,scale", "--seeds", "1"]
    done = ran(place, "-m", "mamlcli", "meta-opt", *words, "--dir", "study")
    assert done.returncode == 0, done.stderr
    assert (place / "study" / "result.json").is_file()
