"""Runs in MLflow stores, read back with MLflow's own client: `make test-extras`."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest

from mamlcli.training.planned import Progress
from tests.helpers.running import assert_same_results, report_of, train_tiny

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

KEYS = (
    "logging=mlflow",
    "outer.iterations=6",
    "outer.checkpoint_every=2",
    "validation.every=2",
    "validation.tasks=3",
)


class Cut(Exception):
    """The process ends here."""


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    """Work in the test's folder, with no setting of MLflow but what opening a store of files here needs."""
    pytest.importorskip("mlflow", reason="the package mlflow-skinny is not installed (extra mlflow)")
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)


def trained(path, *keys, **progress):
    """Train with the tracker; return the warnings."""
    warnings: list[str] = []
    train_tiny(path, "logistic", *KEYS, *keys, progress=Progress(on_warning=warnings.append, **progress))
    return warnings


def client_of(folder: Path):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=folder.absolute().as_uri())


def run_id(path: Path) -> str:
    found: str = json.loads((path / "trackers" / "mlflow" / "run.json").read_text())["run_id"]
    return found


def history(client, path: Path, metric: str):
    return [(point.step, point.value) for point in client.get_metric_history(run_id(path), metric)]


def metrics(path: Path, kind: str, key: str):
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [(line["iteration"], line[key]) for line in lines if line["kind"] == kind]


def test_a_run_is_in_the_store_of_files_with_all_of_it(tmp_path):
    cell = tmp_path / "depths" / "cells" / "one"
    cell.parent.mkdir(parents=True)
    (tmp_path / "depths" / "study.json").write_text("{}")
    assert trained(cell) == []
    client = client_of(tmp_path / "mlruns")
    found = client.get_run(run_id(cell))
    assert found.info.status == "FINISHED"
    assert client.get_experiment(found.info.experiment_id).name == "depths"
    assert found.data.tags["study"] == "depths"
    assert (found.data.params["outer.iterations"], found.data.params["tasks.source"]) == ("6", "logistic")
    for key in ("outer_loss", "grad_norm", "accuracy"):
        assert history(client, cell, key) == metrics(cell, "step", key)
    assert history(client, cell, "validation/loss") == metrics(cell, "validation", "loss")
    curve = [(point["step"], point["loss"]["mean"]) for point in report_of(cell)["curve"]]
    assert history(client, cell, "evaluation/query_loss") == curve
    assert [file.path for file in client.list_artifacts(found.info.run_id, "figures")] == ["figures/curve.png"]


def test_a_resumed_run_goes_on_with_its_mlflow_run_and_has_every_point_once(tmp_path):
    def cut(record):
        if record.iteration == 5:
            raise Cut

    with pytest.raises(Cut):
        trained(tmp_path / "run", on_record=cut)
    client, first = client_of(tmp_path / "mlruns"), run_id(tmp_path / "run")
    assert client.get_run(first).info.status == "FAILED"
    assert trained(tmp_path / "run") == []
    assert run_id(tmp_path / "run") == first
    assert client.get_run(first).info.status == "FINISHED"
    assert history(client, tmp_path / "run", "outer_loss") == metrics(tmp_path / "run", "step", "outer_loss")
    assert history(client, tmp_path / "run", "validation/loss") == metrics(tmp_path / "run", "validation", "loss")


def test_a_server_that_is_away_and_one_that_never_answers_change_no_run(tmp_path, monkeypatch):
    train_tiny(tmp_path / "plain", "logistic", *KEYS, "logging=none")
    for name, answers in (("away", False), ("hangs", True)):
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            if answers:
                listening.listen()
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listening.getsockname()[1]}")
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
            started = time.monotonic()
            [warning] = trained(tmp_path / name)
            assert time.monotonic() - started < 60
        assert warning.startswith("logging=mlflow is off from here on, the run goes on: ")
        assert not (tmp_path / "mlruns").exists()
        assert_same_results(tmp_path / "plain", tmp_path / name)
