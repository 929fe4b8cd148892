"""What the tracker mlflow sets; tests/extras/test_mlflow.py reads a real store back."""

from __future__ import annotations

import sys

from mamlcli.training.planned import Progress
from mamlcli.training.trackers.mlflow_store import set_environment
from tests.helpers.running import train_tiny


def test_nothing_is_reported_and_no_server_is_waited_for_long():
    environment: dict[str, str] = {}
    set_environment(environment)
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    tries = 1 + int(environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    assert tries * int(environment["MLFLOW_HTTP_REQUEST_TIMEOUT"]) < 30


def test_what_the_user_has_set_is_left():
    user = {"DO_NOT_TRACK": "false", "MLFLOW_HTTP_REQUEST_TIMEOUT": "300", "MLFLOW_ALLOW_FILE_STORE": "false"}
    environment = dict(user)
    set_environment(environment)
    assert environment.items() >= user.items()
    assert "MLFLOW_DISABLE_TELEMETRY" not in environment


def test_mlflow_that_is_not_installed_is_one_warning(tmp_path, monkeypatch, one_thread):
    (tmp_path / "site" / "mlflow").mkdir(parents=True)
    (tmp_path / "site" / "mlflow" / "__init__.py").write_text("raise ModuleNotFoundError('No module named mlflow')")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    warnings: list[str] = []
    run = train_tiny(tmp_path / "run", "logistic", "logging=mlflow", progress=Progress(on_warning=warnings.append))
    assert run.manifest.status == "done"
    [warning] = warnings
    assert "No module named mlflow" in warning
    assert warning.endswith("To have it: pip install 'mamlcli[mlflow]'")
