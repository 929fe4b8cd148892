"""The tracker `mlflow` writes a run into an MLflow store: the folder mlruns, or what MLFLOW_TRACKING_URI names.

It runs in a process of its own (`process`), so that what it sets in the environment, and how long MLflow tries, are
of no concern to the run. Nothing leaves the machine unless the user has set MLFLOW_TRACKING_URI.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.common.files import atomic_write
from mamlcli.common.json_reading import json_object, text
from mamlcli.training.trackers.interface import TrackedRun, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"

# The defaults of MLflow would try for many minutes to reach a server that is away.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}

# Of MLflow 3, which otherwise reports its use to its makers.
_NO_REPORTS = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")

_MOST_AT_ONCE = 900  # MLflow takes 1,000 metrics in one call, and 100 parameters
_MOST_PARAMS = 100
_FLUSH_S = 5.0

_STATUS = {"done": "FINISHED", "stopped early": "FINISHED", "interrupted": "KILLED"}


def set_environment(environment: dict[str, str] | os._Environ[str]) -> None:
    """Set what keeps MLflow on this machine and bounds how long it tries, but nothing that the user has set."""
    for name, value in _PATIENCE.items():
        environment.setdefault(name, value)
    if not any(name in environment for name in _NO_REPORTS):
        environment[_NO_REPORTS[0]] = "true"
    # A store of files needs no database; MLflow 3 wants to be told that it is meant.
    environment.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")


class MlflowStore(Tracker):
    """Writes a run as an MLflow run, whose id the run's folder keeps, so that a resumed run goes on with it."""

    def begin(self, run: TrackedRun) -> None:
        set_environment(os.environ)
        from mlflow import MlflowClient

        self._waiting: list[tuple[str, int, float]] = []
        self._flushed = time.monotonic()
        noted = run.folder / "run.json"
        known = {key: text(value, key) for key, value in json_object(noted).items()} if noted.is_file() else {}
        uri = os.environ.get(URI) or known.get("tracking_uri") or Path("mlruns").absolute().as_uri()
        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._last: dict[str, int] = {}
        if known.get("tracking_uri") == uri:
            self._id = known["run_id"]
            self._last = self._last_steps()
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._new_run(run)
            atomic_write(noted, json.dumps({"run_id": self._id, "tracking_uri": uri}).encode())
        for kind, step, values in run.past():
            self._add("" if kind == "step" else "validation/", step, values, self._last)
        self._flush()

    def _new_run(self, run: TrackedRun) -> str:
        from mlflow.entities import Param

        name = run.study or os.environ.get(EXPERIMENT) or "mamlcli"
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = {"folder": str(run.path), "recipe": run.recipe}
        if run.study:
            tags["study"] = run.study
        made: str = self._client.create_run(number, run_name=run.name, tags=tags).info.run_id
        params = [Param(key, str(value)[:500]) for key, value in run.settings.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(made, params=params[first : first + _MOST_PARAMS])
        return made

    def _last_steps(self) -> dict[str, int]:
        """Return the last step that the store has of each metric: what a resumed run computes again is the same."""
        names = self._client.get_run(self._id).data.metrics
        return {
            name: max(point.step for point in self._client.get_metric_history(self._id, name))
            for name in names
            if not name.startswith("evaluation/")
        }

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self._add("", step, values, self._last)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        self._add("validation/", step, values, self._last)

    def _add(self, prefix: str, step: int, values: Mapping[str, float], last: Mapping[str, int]) -> None:
        self._waiting += [
            (f"{prefix}{name}", step, value) for name, value in values.items() if step > last.get(f"{prefix}{name}", -1)
        ]
        if len(self._waiting) >= _MOST_AT_ONCE or time.monotonic() - self._flushed > _FLUSH_S:
            self._flush()

    def _flush(self) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        while self._waiting:
            batch = self._waiting[:_MOST_AT_ONCE]
            self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, step, value in batch])
            del self._waiting[:_MOST_AT_ONCE]
        self._flushed = time.monotonic()

    def scores(self, curve: Sequence[Mapping[str, float]]) -> None:
        for point in curve:
            values = {name: value for name, value in point.items() if name != "step"}
            self._add("evaluation/", int(point["step"]), values, {})

    def figure(self, name: str, path: Path) -> None:
        self._client.log_artifact(self._id, str(path), "figures")

    def end(self, status: str) -> None:
        self._flush()
        self._client.set_terminated(self._id, _STATUS.get(status, "FAILED"))
