"""What the tests of extras share: a Slurm cluster of this machine."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest

from tests.helpers.slurm import SlurmMissing, slurm_in, unpacked


@pytest.fixture(scope="session")
def slurm_root(tmp_path_factory):
    """Where Slurm's programs are; tests that use it are skipped where there are none."""
    for package in ("distributed", "dask_jobqueue", "cryptography"):
        pytest.importorskip(package, reason=f"the package {package} is not installed (extra cluster)")
    try:
        return unpacked(tmp_path_factory.mktemp("packages"))
    except SlurmMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster(slurm_root):
    """A Slurm cluster that runs; its folder has a short name, as its socket needs one."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        try:
            started = stack.enter_context(slurm_in(folder, slurm_root))
        except SlurmMissing as error:  # with the words of its logs
            pytest.skip(str(error))
        yield started


@pytest.fixture
def slurm(cluster, tmp_path, monkeypatch):
    """The cluster, known to this process and to those that it starts; nothing of an earlier test is in its queue."""
    for name in ("PATH", "SLURM_CONF", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, cluster.environment[name])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    yield cluster
    cluster.empty()
