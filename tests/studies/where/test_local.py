"""Processes of this machine: one on each GPU, by fake numbers of GPUs. The jobs load no torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.jobs import Job
from mamlcli.common.processes.pool import run_jobs
from mamlcli.studies.where.local import gpus_executor, gpus_here, has_several_gpus
from tests.helpers.jobs import visible_gpu


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Say which GPUs there are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))

    def have(count, visible=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return have


def test_each_gpu_has_a_process_of_its_own_that_sees_no_other(gpus, tmp_path):
    gpus(3, "3,5,GPU-1f")
    executor = gpus_executor("2", device="auto")
    (tmp_path / "begun").mkdir()
    outcomes = run_jobs([Job(name, visible_gpu, str(tmp_path / "begun" / name)) for name in "abcd"], executor=executor)
    seen = {outcome.value for outcome in outcomes.values()}
    assert sorted(gpu for gpu, _ in seen) == ["3", "5"]
    assert {outcome.where for outcome in outcomes.values()} == {"GPU 3", "GPU 5"}


@pytest.mark.parametrize(
    ("number", "options", "processes"),
    [("", {}, 3), ("2", {}, 2), ("", {"per_gpu": 2}, 6), ("2", {"per_gpu": 2, "jobs": 3}, 3), ("1", {}, 1)],
)
def test_processes_are_as_many_as_gpus_times_those_on_each_and_no_more_than_the_jobs(gpus, number, options, processes):
    gpus(3)
    assert gpus_executor(number, device="cuda", **options).num_processes == processes


@pytest.mark.parametrize("number", ["", "0", "3"])
def test_gpus_that_are_not_there_are_refused(gpus, number):
    gpus(2 if number else 0)
    words = r"GPUs of this machine, got (2 GPUs|no GPU that torch can use).*--on local"
    with pytest.raises(MamlError, match=words):
        gpus_executor(number, device="auto")


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps"])
def test_a_recipe_that_computes_elsewhere_is_refused(gpus, device):
    gpus(2)
    with pytest.raises(MamlError, match=f"execution.device=auto or cuda, got execution.device={device}"):
        gpus_executor("", device=device)


def test_several_gpus_are_those_that_are_visible_and_that_the_device_may_be(gpus):
    gpus(2, "4,6")
    assert gpus_here() == ["4", "6"]
    assert [has_several_gpus(device) for device in ("auto", "cuda", "cpu", "cuda:0")] == [True, True, False, False]
    gpus(1)
    assert not has_several_gpus("auto")
