"""`--on slurm` where there is no Slurm; with one it is tested by tests/extras/test_slurm.py."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.studies.where.slurm import connected


@pytest.fixture(autouse=True)
def no_slurm(tmp_path, monkeypatch):
    """No command of Slurm, and no profile."""
    pytest.importorskip("distributed", reason="the package distributed is not installed (extra cluster)")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_a_machine_without_slurm_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(MamlError, match="expected the commands of Slurm"), connected(""):
        pass
    assert not (tmp_path / "cache").exists()


def test_the_profile_is_checked_first(tmp_path):
    (tmp_path / "cluster.yaml").write_text("gpu:\n  cpus: many\n")
    with pytest.raises(MamlError, match=r"cluster.yaml:2: gpu.cpus: expected an integer, got 'many'"), connected("gpu"):
        pass
