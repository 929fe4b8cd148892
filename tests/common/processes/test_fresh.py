"""A fresh Python has this one's packages and runs no file of the current folder. No test loads torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mamlcli
from mamlcli.common.processes.fresh import fresh_python, program
from tests.helpers.strange_folders import NAMES, strange_folder

SHOW = "import json, sys, mamlcli; print(json.dumps([sys.path, sys.argv[1:], mamlcli.__file__]))"


def shown(code=SHOW, *words):
    ended = subprocess.run(fresh_python(code, *words), capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """Stand in a folder of strange files, which is first on this process's path; return what tells that they ran."""
    log = strange_folder(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "run"), ".", *sys.path])
    return log


def test_nothing_of_the_current_folder_is_run(strange, tmp_path):
    path, _, _ = shown(f"import {', '.join(name for name in NAMES if name not in ('torch', 'rich'))}\n{SHOW}")
    assert not strange.exists()
    assert not {"", ".", str(tmp_path / "run")} & set(path)


def test_current_folder_by_another_name_is_left_out_too(strange, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "link"), *sys.path])
    assert str(tmp_path / "link") not in shown()[0]


def test_path_of_the_parent_stays_in_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    added = [str(tmp_path / "first"), str(tmp_path / "second")]
    monkeypatch.setattr(sys, "path", [*added, *sys.path])
    assert shown()[0][:2] == added


def test_current_folder_stays_where_pythonpath_names_it(strange, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "run"))
    ended = subprocess.run(fresh_python("import sys; print(sys.path)"), capture_output=True, text=True, check=True)
    assert str(tmp_path / "run") in ended.stdout


def test_package_is_that_of_this_process_even_in_its_own_folder(monkeypatch):
    monkeypatch.chdir(Path(mamlcli.__file__).parents[1])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert shown(SHOW, "a", "b c")[1:] == [["a", "b c"], mamlcli.__file__]


def test_program_is_the_command_line(strange):
    ended = subprocess.run(program("--version"), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"mamlcli {mamlcli.__version__}\n", "")
    assert not strange.exists()


def test_module_of_the_current_folder_is_not_taken_by_python_m_either(strange):
    environment = os.environ | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
    command = [sys.executable, "-m", "mamlcli", "--version"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, f"mamlcli {mamlcli.__version__}\n")
    assert not strange.exists()
