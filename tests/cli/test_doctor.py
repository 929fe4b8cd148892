"""`mamlcli doctor`: what is here, what would not work, what mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import mamlcli
from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK


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
    monkeypatch.setattr("mamlcli.cli.diagnosis.checks.meta_iteration_findings", lambda: iter(()))
    monkeypatch.setattr("mamlcli.cli.diagnosis.checks.recipe_findings", lambda: iter(()))


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


def test_a_check_that_fails_is_a_finding(cli, quick, monkeypatch):
    def fail():
        raise RuntimeError("no such luck\nframe")
        yield

    monkeypatch.setattr("mamlcli.cli.diagnosis.checks.processor_findings", fail)
    ended = cli("doctor", "--json")
    assert ended.code == 1
    assert findings(ended)["device", "processor"]["found"] == "RuntimeError: no such luck"


def test_a_damaged_pack_is_no_reason_to_fail(cli, quick, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "omniglot.npz").write_text("no archive")
    ended = cli("doctor", "--json")
    assert ended.code == 0
    assert findings(ended)["data", "omniglot"]["found"].endswith("omniglot.npz: damaged")


def test_a_check_that_lacks_a_package_names_it(cli, quick, monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    ended = cli("doctor", "--json")
    assert ended.code == 1
    found = findings(ended)["packages", "requirements"]
    assert (found["status"], found["remedy"]) == (BROKEN, "pip install packaging")


def test_a_table_is_shown_where_numpy_cannot_be_imported(tmp_path):
    # A package that is broken is what doctor is for: its own table must not need it.
    code = (
        "import sys; sys.modules['numpy'] = None; sys.argv = ['mamlcli', 'doctor'];"
        "from mamlcli.__main__ import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, "numpy" in ended.stdout) == (1, True), ended.stderr


def test_a_place_of_on_is_looked_at_alone(cli, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert json.loads(cli("doctor", "--on", "gpus", "--json").out) == {"found": "2 of the GPUs 0, 1 of this machine"}
    assert cli("doctor", "--on", "local").out == "processes of this machine\n"
    refused = cli("doctor", "--on", "nowhere")
    assert (refused.code, refused.out) == (1, "")
    assert "expected local, gpus[:N], slurm[:PROFILE] or tcp://HOST:PORT, got 'nowhere'" in " ".join(
        refused.err.split()
    )
