"""In the process of a Dask worker: no torch, and the variables of the driver for its children."""

from __future__ import annotations

import os
import subprocess

from mamlcli.common.processes.fresh import fresh_python
from mamlcli.studies.where.on_worker import Surroundings, place_words


def test_what_runs_in_a_worker_loads_no_torch(tmp_path):
    code = "from mamlcli.studies.where import on_worker\nassert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run(fresh_python(code), cwd=tmp_path, check=True)


def test_surroundings_have_the_drivers_places_and_threads(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    around = Surroundings.here("driver")
    assert around.folder == os.getcwd()
    assert around.environment["MAMLCLI_DATA"] == str(tmp_path / "data")
    assert (around.environment["OMP_NUM_THREADS"], around.environment["MKL_NUM_THREADS"]) == ("3", None)


def test_a_place_is_a_host_and_the_gpus_that_are_set(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "node7")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert place_words() == "node7"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert place_words() == "node7 GPU 1"
