"""What a run depends on beside its recipe: versions, commit, device, cores."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path

import pytest
import torch

import mamlcli
from mamlcli.common import machine
from mamlcli.common.machine import (
    device_name,
    git_state,
    now,
    num_cores,
    peak_memory_mb,
    short_versions,
    synchronize,
    threads_of,
    versions,
)

ROOT = Path(mamlcli.__file__).parents[1]
CPU = torch.device("cpu")


def test_versions_are_those_that_are_installed():
    for name in ("torch", "torchvision", "numpy", "pydantic", "safetensors"):
        assert versions()[name] == metadata.version(name)


@pytest.mark.parametrize(
    ("platform", "short"),
    [
        ("Linux-6.8.0-45-generic-x86_64-with-glibc2.39", "Linux-6.8-x86_64-with-glibc2.39"),
        ("Linux-6.18.44-fc-v657-x86_64-with-glibc2.36", "Linux-6.18-x86_64-with-glibc2.36"),
        ("Linux-6.8-x86_64-with-glibc2.39", "Linux-6.8-x86_64-with-glibc2.39"),
        ("macOS-14.5-arm64-arm-64bit", "macOS-14.5-arm64-arm-64bit"),
    ],
)
def test_the_build_of_a_kernel_is_left_out(platform, short):
    assert short_versions({"torch": "2", "platform": platform}) == {"torch": "2", "platform": short}
    assert short_versions({"torch": "2"}) == {"torch": "2"}


def test_version_of_a_checkout_that_was_never_installed_is_that_of_its_code(monkeypatch):
    def fail(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", fail)
    assert versions()["mamlcli"] == mamlcli.__version__
    assert versions()["torch"] == "not installed"


def test_versions_are_told_without_loading_torch_or_the_python_interface():
    code = (
        "import sys, mamlcli.common.machine as machine; versions = machine.versions()\n"
        "loaded = [name for name in ('torch', 'numpy', 'pydantic', 'mamlcli.api') if name in sys.modules]\n"
        "print(versions['torch'], loaded)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.stdout == f"{metadata.version('torch')} []\n", ended.stderr


def git(folder, *words):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that the package seems to run from."""
    monkeypatch.setattr(machine, "CHECKOUT", tmp_path)
    return tmp_path


def test_checkout_is_told_by_its_commit_and_whether_files_are_changed(checkout):
    (checkout / "a.py").write_text("1")
    git(checkout, "init", "-q")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state() == {"commit": commit, "is_dirty": False}
    (checkout / "a.py").write_text("2")
    assert git_state() == {"commit": commit, "is_dirty": True}


def test_without_a_checkout_a_commit_or_git_there_is_no_state(checkout, monkeypatch):
    assert git_state() is None
    git(checkout, "init", "-q")
    assert git_state() is None  # no commit yet
    monkeypatch.setenv("PATH", str(checkout))
    assert git_state() is None


def test_cpu_is_named_with_its_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert device_name(CPU) == "cpu (12 cores)"


def test_peak_memory_is_of_the_whole_process_in_mb():
    # An interpreter with torch takes more than 50 MB and, in kB read as MB, would take more than a million.
    assert 50 < peak_memory_mb(CPU) < 100_000


@pytest.mark.parametrize(("cores", "num_processes", "threads"), [(8, 2, 4), (8, 3, 2), (2, 5, 1)])
def test_processes_share_the_cores(monkeypatch, cores, num_processes, threads):
    monkeypatch.setattr(machine, "num_cores", lambda: cores)
    assert threads_of(num_processes) == threads


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert num_cores() == 3
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert num_cores() == 1


def test_time_is_in_utc_to_the_second():
    moment = datetime.fromisoformat(now())
    assert moment.utcoffset() == timedelta(0)
    assert moment.microsecond == 0
    assert abs(datetime.now(timezone.utc) - moment) < timedelta(minutes=1)


def test_gpu_of_a_mac_is_named_waited_for_and_has_no_peak_of_memory(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
    mps = torch.device("mps")
    assert device_name(mps) == "mps (GPU of this arm64 Mac)"
    assert peak_memory_mb(mps) is None
    synchronize(mps)
    synchronize(CPU)
    assert waited == ["mps"]
