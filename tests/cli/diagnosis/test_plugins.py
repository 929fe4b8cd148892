"""The doctor lists plug-ins: those that work, that fail, that two packages have, and that have a name of ours."""

from __future__ import annotations

import pytest

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
