"""Places: what the words of --on may be, and how each is opened for a study."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from mamlcli.common.errors import Interrupted, MamlError, TakenError
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.start import run_study
from mamlcli.studies.sweeps.cells import run_cells
from mamlcli.studies.sweeps.folder import open_study
from mamlcli.studies.where.places import Place, Wish, executor_at, place_of
from tests.helpers.clusters import local_cluster
from tests.helpers.processes import wait_for
from tests.helpers.studies import payloads, run_here, tiny_sweep


@pytest.mark.parametrize(
    ("text", "kind", "argument"),
    [
        ("local", "local", ""),
        ("gpus", "gpus", ""),
        ("gpus:2", "gpus", "2"),
        ("slurm", "slurm", ""),
        ("slurm:big", "slurm", "big"),
        ("tcp://10.0.0.1:8786", "tcp", "//10.0.0.1:8786"),
    ],
)
def test_a_place_is_a_word_and_what_stands_after_its_colon(text, kind, argument):
    assert place_of(text) == Place(kind, argument)
    assert str(place_of(text)) == text


@pytest.mark.parametrize("text", ["", "cluster", "local:2", "tcp", "tcp:8786", "10.0.0.1:8786"])
def test_another_word_is_refused_with_the_forms_there_are(text):
    with pytest.raises(MamlError, match=r"--on: expected local, gpus\[:N\], slurm\[:PROFILE\] or tcp://HOST:PORT, got"):
        place_of(text)


def opened(folder, **wish):
    return executor_at(Wish(**wish), device="auto", num_default=lambda: 3, folder=folder)


def test_without_a_word_jobs_run_on_each_gpu_where_there_are_several_else_here(monkeypatch, tmp_path):
    for count, processes in ((1, 3), (2, 2)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        with opened(tmp_path) as executor:
            assert executor.num_processes == processes
    for wish in ({"jobs": 4}, {"on": "local", "jobs": 4}):  # as many as are asked for, on what the recipes say
        with opened(tmp_path, **wish) as executor:
            assert executor.num_processes == 4


def test_a_number_for_each_gpu_is_refused_elsewhere(tmp_path):
    with pytest.raises(MamlError, match="--per-gpu: expected --on gpus, got --on local"), opened(tmp_path, per_gpu=2):
        pass


def test_packages_that_a_cluster_needs_are_named_where_they_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr("mamlcli.studies.where.places.find_spec", lambda name: None)
    words = r"no distributed and no dask-jobqueue and no cryptography. Run: pip install 'mamlcli\[cluster\]'"
    with pytest.raises(MamlError, match=words), opened(tmp_path, on="slurm"):
        pass


def test_a_study_that_another_driver_runs_is_refused_before_the_cluster_is_asked(tmp_path):
    with RunDirectory(tmp_path).lock(), pytest.raises(TakenError), opened(tmp_path, on="tcp://127.0.0.1:9"):
        pass


def kill_worker_of(cell, killed):
    """Kill the Dask worker whose child trains a cell, once the cell has saved its first state."""
    wait_for(lambda: any((cell / "checkpoints").glob("*")))
    child = json.loads((cell / "lock").read_text())["pid"]
    worker = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
    killed.append(child)


def test_a_study_on_a_cluster_has_the_bits_of_one_here_though_it_was_begun_here_and_a_worker_was_killed(
    tmp_path, monkeypatch
):
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    sweep = tiny_sweep(num_seeds=1, overrides=["outer.iterations=300", "validation.every=null"])
    run_here(sweep, tmp_path / "here")
    path, killed, ends = Path("study"), [], []
    open_study(path, sweep, "command")
    answers = iter([False] * 5)
    with pytest.raises(Interrupted):
        run_cells(payloads(sweep, path)["depth-1-seed-0"], lambda: next(answers, True))
    killer = threading.Thread(target=kill_worker_of, args=(path / "cells" / "depth-2-seed-0", killed), daemon=True)
    with local_cluster(2) as cluster:
        killer.start()
        result = run_study(sweep, path, on=cluster.scheduler_address, with_capacity=False, on_end=ends.append)
    assert not result.failures
    assert killed
    assert [end.status for end in ends] == ["done"] * 2
    for name in ("depth-1-seed-0", "depth-2-seed-0"):
        run, other = (RunDirectory.open(folder / "cells" / name) for folder in (path, tmp_path / "here"))
        assert run.manifest.resumed_from
        assert run.manifest.execution["host"]
        assert np.array_equal(run.read_scores(), other.read_scores(), equal_nan=True)
