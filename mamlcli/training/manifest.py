"""Writes to a run's manifest how it is computed, and all else that its results depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mamlcli.common.errors import RunError
from mamlcli.common.machine import device_name, git_state, now, versions
from mamlcli.engine.execution import Execution
from mamlcli.engine.sizes import count_parameters
from mamlcli.engine.state import TrainState
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.experiment import Experiment


@dataclass(frozen=True)
class ExecutionRecord:
    """How a run is computed: sums in another order round differently.

    Attributes:
        how: how the tasks of a meta-batch are run.
        threads: of one operation.
        dtype: precision, as in the recipe.
        num_workers: processes that share the tasks.
        num_runs: runs that are computed together, itself included.
    """

    how: Execution
    threads: int
    dtype: str
    num_workers: int = 1
    num_runs: int = 1

    def to_json(self) -> dict[str, object]:
        """Return the record as a manifest holds it."""
        return {
            **asdict(self.how),
            "threads": self.threads,
            "dtype": self.dtype,
            "workers": self.num_workers,
            "replicas": self.num_runs,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ExecutionRecord | None:
        """Return the record of a manifest, also of one of an earlier version; None if it says too little."""
        try:
            how = Execution(record["path"], record["chunk"], record.get("parallel", 1), record.get("compile", False))
            threads = int(record["threads"])
        except KeyError:
            return None
        return cls(how, threads, record.get("dtype", ""), record.get("workers", 1), record.get("replicas", 1))


def execution_record(
    experiment: Experiment, how: Execution, num_workers: int = 1, num_runs: int = 1
) -> ExecutionRecord:
    """Return how a run is computed in this process, with the threads that are set now."""
    return ExecutionRecord(how, torch.get_num_threads(), experiment.recipe.execution.dtype, num_workers, num_runs)


def recorded_execution(run: RunDirectory, num_workers: int = 1, num_runs: int = 1) -> ExecutionRecord | None:
    """Return how a run that goes on was computed so far.

    None for a run that recorded nothing, was split over another number of workers, or was computed together with
    another number of runs.
    """
    record = ExecutionRecord.from_json(run.manifest.execution)
    if record is None or (record.num_workers, record.num_runs) != (num_workers, num_runs):
        return None
    return record


def recorded_workers(run: RunDirectory) -> int:
    """Return the number of workers that a run was trained with so far."""
    return run.manifest.num_workers


def start_manifest(
    run: RunDirectory, experiment: Experiment, argv: list[str], state: TrainState, execution: ExecutionRecord
) -> None:
    """Write to the manifest that the run goes on from a state, and what its results depend on.

    Raises:
        RunError: the run was trained on other data so far.
    """
    meta, iteration = state.meta_params, state.iteration
    manifest = run.manifest
    if iteration and (recorded := manifest.data_digest) != experiment.data_digest:
        raise RunError(
            str(run.path),
            expected=f"the data it was trained on (digest {recorded})",
            got=f"other data (digest {experiment.data.get('digest')})",
            next_step="Put the first pack back, or train a new run",
        )
    run.update_manifest(
        {
            "status": "running",
            "reason": None,
            "error": None,
            "argv": argv,
            "started_at": manifest.started_at or now(),
            "resumed_from": [*manifest.resumed_from, *([iteration] if iteration else [])],
            "seed": experiment.recipe.seed,
            "evaluation_seed": experiment.recipe.evaluation.seed,
            "num_parameters": count_parameters(meta.model),
            "num_transform_parameters": count_parameters(meta.transform),
            "network": {
                "input_shape": list(experiment.network.input_shape),
                "num_outputs": experiment.network.num_outputs,
            },
            "device": device_name(experiment.device),
            "execution": execution.to_json(),
            "data": experiment.data,
            "versions": versions(),
            "git": git_state(),
        }
    )
