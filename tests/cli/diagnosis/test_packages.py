"""Packages: what is needed, and whether it is here in a version that works."""

from __future__ import annotations

import configparser
from importlib import metadata
from pathlib import Path

import pytest

import mamlcli
from mamlcli.cli.diagnosis import packages
from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK
from mamlcli.cli.diagnosis.packages import Needed, is_at_least, requirements


def test_a_package_that_cannot_be_imported_or_is_old_is_broken(monkeypatch):
    def fail(name):
        raise OSError("libtorch.so: cannot open shared object file\nmore")

    assert packages.package_finding("numpy", "999").found.endswith("older than 999")
    monkeypatch.setattr(packages.importlib, "import_module", fail)
    found = packages.package_finding("torch", "2.6")
    assert found.status == BROKEN
    assert "OSError: libtorch.so: cannot open shared object file)" in found.found


def test_a_torchvision_of_another_build_than_torch_stops_only_what_needs_it(monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(packages.importlib, "import_module", fail)
    found = packages.package_finding("torchvision", "0.21")
    assert (found.status, found.effect) == (LACKING, "mamlcli data fetch does not work")
    assert "from one index" in found.remedy


def test_extras_that_are_not_installed_are_lacking(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    found = {finding.name: finding for finding in packages.extras_findings()}
    assert set(found) == {"bench", "bench-jax", "tensorboard", "mlflow", "cluster"}
    assert found["bench"].status == LACKING
    assert found["bench"].remedy == "pip install 'mamlcli[bench]'"
    assert "higher not installed" in found["bench"].found


def test_requirements_are_those_of_the_package():
    config = configparser.ConfigParser()
    config.read(Path(mamlcli.__file__).parents[1] / "setup.cfg")
    wanted = config["options"]["install_requires"].split()
    assert [f"{needed.name}>={needed.smallest}" for needed in requirements() if needed.extra is None] == wanted
    found = {needed.extra for needed in requirements()}
    assert found == {None, "bench", "bench-jax", "tensorboard", "mlflow", "cluster"}


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


def test_every_package_that_is_needed_is_imported_by_its_own_name():
    """A distribution such as markdown-it-py has a module of another name."""
    needed = [needed for needed in requirements() if needed.extra is None]
    assert [packages.package_finding(item.name, item.smallest).status for item in needed] == [OK] * len(needed)


def test_an_old_python_is_broken_and_says_which_is_needed(monkeypatch):
    monkeypatch.setattr(packages.sys, "version_info", (3, 9, 18))
    finding = {finding.name: finding for finding in packages.python_finding()}["python"]
    assert finding.status == BROKEN
    assert finding.effect == "mamlcli needs 3.10 or newer"
