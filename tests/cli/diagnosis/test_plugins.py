"""The doctor lists plug-ins: those that work, that fail, that two packages have, and that have a name of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mamlcli
from mamlcli.cli.diagnosis.findings import LACKING, OK
from mamlcli.cli.diagnosis.plugins import plugin_findings
from tests.helpers.plugins import ONE_FILE, forget, install


@pytest.fixture(autouse=True)
def fresh():
    yield
    forget()


def test_every_plugin_is_a_finding(monkeypatch, tmp_path):
    points = {
        "networks": "net = one_file:Net\nmlp = one_file:Net\nbad = no_such_module:Net",
        "tasks": "lines = one_file:Lines",
        "trackers": "told = one_file:Told\ncsv = one_file:Csv",
    }
    install(monkeypatch, tmp_path / "site", ONE_FILE, **points)
    install(monkeypatch, tmp_path / "more", "", package="other", tasks="lines = other:L", trackers="told = other:T")
    found = {finding.name: finding for finding in plugin_findings()}
    assert (found["net"].status, found["net"].found) == (OK, "network of one_file 1.5")
    assert found["mlp"].effect == found["csv"].effect == "the name means mamlcli's own"
    assert "ModuleNotFoundError" in found["bad"].found
    assert "other 1.5" in found["lines"].found
    assert "one_file 1.5" in found["told"].found
    assert {found[name].status for name in ("mlp", "csv", "bad", "lines", "told")} == {LACKING}


def test_nothing_installed_is_nothing_found():
    assert not list(plugin_findings())


def test_plugins_are_found_by_a_process_that_has_read_no_recipe(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "site", ONE_FILE, networks="net = one_file:Net\nmlp = one_file:Net")
    code = (
        "from mamlcli.cli.diagnosis.plugins import plugin_findings\n"
        "print([(finding.name, finding.status) for finding in plugin_findings()])"
    )
    paths = os.pathsep.join([str(tmp_path / "site"), str(Path(mamlcli.__file__).parents[1])])
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.stdout.strip() == f"[('mlp', {LACKING!r}), ('net', {OK!r})]", done.stderr
