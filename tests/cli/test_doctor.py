"""`mamlcli doctor`: what is here, what would not work, what mends it."""

from __future__ import annotations

import configparser
import json
import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

import mamlcli
from mamlcli.cli.diagnosis import checks, packages
from mamlcli.cli.diagnosis.checks import folder_bytes, size
from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK, Finding, broken
from mamlcli.cli.diagnosis.packages import Needed, is_at_least, requirements


def findings(shown):
    return {(found["group"], found["name"]): found for found in json.loads(shown.out)["findings"]}


def test_all_is_well_here(cli):
    ended = cli("doctor", "--json")
    found = findings(ended)
    assert ended.code == 0
    assert json.loads(ended.out)["ok"]
    assert not [name for name, finding in found.items() if finding["status"] == BROKEN]
    assert found["packages", "torch"]["details"]["version"] == metadata.version("torch")
    assert found["device", "cpu"]["details"]["cores"] >= 1
    assert found["disk", "runs"]["details"]["free_bytes"] > 0
    assert found["program", "a meta-iteration"]["status"] == OK
    # The folder that the tests name is not there, and so no pack is; nothing bare needs them.
    assert found["data", "folder"]["status"] == LACKING
    assert found["data", "omniglot"]["remedy"] == "mamlcli data fetch omniglot"


@pytest.fixture
def quick(monkeypatch):
    """Leave out what takes time and is tested above."""
    monkeypatch.setattr("mamlcli.cli.diagnosis.checks._meta_iteration", lambda: iter(()))
    monkeypatch.setattr("mamlcli.cli.diagnosis.checks._recipes", lambda: iter(()))


def test_table_fits_80_columns_and_names_what_mends(cli, quick, monkeypatch):
    from mamlcli.cli import console

    monkeypatch.setattr(console.stdout_console(), "width", 80)
    shown = cli("doctor").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "mamlcli data fetch omniglot" in shown
    assert shown.rstrip().endswith("All that the bare commands need is here.")
    assert "\x1b" not in shown


def test_a_package_that_is_missing_is_broken(cli, quick, monkeypatch):
    def version(name):
        if name == "safetensors":
            raise metadata.PackageNotFoundError(name)
        return "99.0"

    monkeypatch.setattr(metadata, "version", version)
    ended = cli("doctor", "--json")
    assert ended.code == 1
    found = findings(ended)["packages", "safetensors"]
    assert (found["status"], found["found"]) == (BROKEN, "not installed")
    assert found["remedy"].startswith("pip install 'safetensors>=")
    assert "safetensors broken" in ended.errors[0]


def test_a_package_that_cannot_be_imported_or_is_old_is_broken(monkeypatch):
    def fail(name):
        raise OSError("libtorch.so: cannot open shared object file\nmore")

    assert packages.package_finding("numpy", "999").found.endswith("older than 999")
    monkeypatch.setattr(packages.importlib, "import_module", fail)
    found = packages.package_finding("torch", "2.6")
    assert found.status == BROKEN
    assert "OSError: libtorch.so: cannot open shared object file)" in found.found


def test_a_check_that_fails_is_a_finding(cli, quick, monkeypatch):
    def fail():
        raise RuntimeError("no such luck\nframe")
        yield

    monkeypatch.setattr("mamlcli.cli.diagnosis.checks._processor", fail)
    ended = cli("doctor", "--json")
    assert ended.code == 1
    assert findings(ended)["device", "processor"]["found"] == "RuntimeError: no such luck"


def test_a_folder_that_cannot_be_written_or_is_full_is_told(tmp_path, monkeypatch):
    def look(is_needed=True):
        return checks._folder("runs", tmp_path / "runs", "effect", "remedy", is_needed=is_needed)

    assert look().status == OK
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert (look().status, look(is_needed=False).status) == (BROKEN, LACKING)
    monkeypatch.undo()
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: type("usage", (), {"free": 10 * 2**20}))
    assert (look().status, look().effect) == (BROKEN, "the disk is nearly full")


def test_a_damaged_pack_is_no_reason_to_fail(cli, quick, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "omniglot.npz").write_text("no archive")
    ended = cli("doctor", "--json")
    assert ended.code == 0
    assert findings(ended)["data", "omniglot"]["found"].endswith("omniglot.npz: damaged")


def test_a_missing_compiler_is_lacking(monkeypatch):
    monkeypatch.setattr("mamlcli.engine.explicit.compilation.has_compiler", lambda: False)
    (found,) = checks._compiler()
    assert found.status == LACKING
    assert "g++" in str(found.remedy)


def test_extras_that_are_not_installed_are_lacking(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    found = {finding.name: finding for finding in packages.extras_findings()}
    assert set(found) == {"bench", "tensorboard"}
    assert found["bench"].status == LACKING
    assert found["bench"].remedy == "pip install 'mamlcli[bench]'"
    assert "higher not installed" in found["bench"].found


def test_requirements_are_those_of_the_package():
    config = configparser.ConfigParser()
    config.read(Path(mamlcli.__file__).parents[1] / "setup.cfg")
    wanted = config["options"]["install_requires"].split()
    assert [f"{needed.name}>={needed.smallest}" for needed in requirements() if needed.extra is None] == wanted
    assert {needed.extra for needed in requirements()} == {None, "bench", "tensorboard"}


def test_requirements_of_an_installed_package(monkeypatch, tmp_path):
    lines = ["torch>=2.6", "numpy>=1.26", 'higher==0.2.1; extra == "bench"', 'pytest>=8; extra == "test"']
    lines.append('colorama>=0.4; sys_platform == "no-such-system"')
    monkeypatch.setattr("mamlcli.cli.diagnosis.packages._PACKAGE", tmp_path / "mamlcli")
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    assert requirements() == [
        Needed("torch", "2.6", None),
        Needed("numpy", "1.26", None),
        Needed("higher", "0.2.1", "bench"),
    ]


def test_a_check_that_lacks_a_package_names_it(cli, quick, monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    ended = cli("doctor", "--json")
    assert ended.code == 1
    found = findings(ended)["packages", "requirements"]
    assert (found["status"], found["remedy"]) == (BROKEN, "pip install packaging")


@pytest.mark.parametrize(
    ("version", "smallest", "expected"),
    [
        ("2.15.0", "2.6", True),
        ("2.6.0+cpu", "2.6", True),
        ("2.6", "2.6.0", True),
        ("2.5.9", "2.6", False),
        ("2.7.0a0+git12", "2.6", True),
        ("0.4.2", "0.4.3", False),
    ],
)
def test_versions_are_compared_by_number(version, smallest, expected):
    assert is_at_least(version, smallest) is expected


def test_sizes(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_bytes(b"x" * 2048)
    assert folder_bytes(tmp_path) == 2048
    assert folder_bytes(tmp_path / "nowhere") == 0
    assert [size(n) for n in (2048, 3 * 2**20, 20 * 2**30, None)] == ["2 kB", "3.0 MB", "20 GB", "an unknown amount"]


def test_exit_code_counts_what_is_broken_alone():
    lacking, bad = (Finding("data", "x", status, "") for status in (LACKING, BROKEN))
    assert broken([lacking]) == []
    assert broken([lacking, bad]) == [bad]
