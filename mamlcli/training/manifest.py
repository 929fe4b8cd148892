"""Writes to a run's manifest how it is computed, and all else that its results depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mamlcli.common.errors import RunError
from mamlcli.common.machine import device_name, git_state, now, versions
from mamlcli.common.names import PATH_KEY
from mamlcli.engine.execution import Execution
from mamlcli.engine.sizes import count_parameters
from mamlcli.engine.state import TrainState
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.going_on import LENGTH, ROUNDING, Changes, recipe_changes
from mamlcli.runs.manifest import FINISHED, Manifest
from mamlcli.runs.parts import new_part, parts_with
from mamlcli.training.data_place import check_same
from mamlcli.training.experiment import Experiment
from mamlcli.training.given_record import check_given, record_given
from mamlcli.training.plugins import plugin_record

# The versions that a result depends on; a run may go on with others, which is noted.
_CODE = ("mamlcli", "python", "torch", "numpy")


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
            rest = record.get("parallel", 1), record.get("compile", False), record.get("graphs", False)
            how = Execution(record["path"], record["chunk"], *rest)
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


def changes_now(
    run: RunDirectory, experiment: Experiment, iteration: int, num_workers: int
) -> dict[str, tuple[object, object]]:
    """Return what is otherwise now than so far in how a run is made: keys of its recipe, the device, the workers.

    Args:
        run: that begins or goes on.
        experiment: that it goes on with.
        iteration: meta-iterations done; before the first, device and workers have no past.
        num_workers: processes that share its tasks.

    Raises:
        RunError: the experiment is of another recipe.
    """
    changes = recipe_changes(run, experiment.recipe, may_lengthen=True)
    manifest, device = run.manifest, device_name(experiment.device)
    if iteration and manifest.device is not None and not manifest.device.startswith(experiment.device.type):
        changes["device"] = manifest.device, device
    if iteration and manifest.num_workers != num_workers:
        changes["workers"] = manifest.num_workers, num_workers
    return changes | (_other_code(manifest) | _other_plugins(manifest, experiment) if iteration else {})


def _other_code(manifest: Manifest) -> dict[str, tuple[object, object]]:
    """Return the versions, and the commit of the source, that are other ones now than in the part of a run before."""
    here, commit = versions(), (git_state() or {}).get("commit")
    pairs: dict[str, tuple[object, object]] = {
        **{f"versions.{name}": (manifest.versions.get(name), here[name]) for name in _CODE},
        "git.commit": (manifest.git.get("commit"), commit),
    }
    return {key: pair for key, pair in pairs.items() if None not in pair and pair[0] != pair[1]}


def _other_plugins(manifest: Manifest, experiment: Experiment) -> dict[str, tuple[object, object]]:
    """Return the versions of packages of plug-ins that are other ones now."""
    noted = manifest.plugins
    pairs = {
        f"plugins.{plugin['package']}": (noted[path].get("version"), plugin["version"])
        for path, plugin in plugin_record(experiment.recipe).items()
        if path in noted
    }
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def is_computed_anew(changes: Changes) -> bool:
    """Return whether after these changes it is decided anew how tasks are run.

    The key of the device alone is no reason: it may name the device that it was so far.
    """
    return any(key in ("device", *ROUNDING) and key != "execution.device" for key in changes)


def start_manifest(
    run: RunDirectory,
    experiment: Experiment,
    argv: list[str],
    state: TrainState,
    execution: ExecutionRecord,
    changes: Changes,
) -> None:
    """Write to the manifest that the run goes on from a state, what was changed, and what its results depend on.

    Where keys are changed, recipe.yaml is written first: if all is cut between the two, the next start finds the same
    changes. What the parts before were computed with stays in the manifest.

    Raises:
        RunError: the run was trained on other data so far.
    """
    meta, iteration = state.meta_params, state.iteration
    manifest = run.manifest
    if iteration or PATH_KEY in changes:
        check_same(run, experiment.data_digest)
    given = record_given(experiment.recipe, experiment.network, experiment.objective().inner.transform)
    if iteration:
        check_given(run.label, manifest.given, given)
    computed_with = {
        "argv": argv,
        "device": device_name(experiment.device),
        "execution": {**execution.to_json(), **_machine(experiment)},
        "data": experiment.data,
        "versions": versions(),
        "git": git_state(),
    }
    run.update_manifest(
        {
            **_recipe_now(run, experiment, changes),
            **computed_with,
            "parts": parts_with(manifest, new_part(iteration, now(), computed_with)),
            "status": "running",
            "reason": None,
            "error": None,
            "started_at": manifest.started_at or now(),
            "resumed_from": [*manifest.resumed_from, *([iteration] if iteration else [])],
            "changes": _changes_so_far(manifest, changes, iteration),
            "earlier_results": _earlier_results(run, changes),
            "seed": experiment.recipe.seed,
            "evaluation_seed": experiment.recipe.evaluation.seed,
            "num_parameters": count_parameters(meta.model),
            "num_transform_parameters": count_parameters(meta.transform),
            **({"given": given} if given else {}),
            **({"plugins": plugins} if (plugins := plugin_record(experiment.recipe)) else {}),
            "network": {
                "input_shape": list(experiment.network.input_shape),
                "num_outputs": experiment.network.num_outputs,
            },
        }
    )


def _machine(experiment: Experiment) -> dict[str, str]:
    """Return the host that a run is computed on, and the GPU that it has there, as CUDA_VISIBLE_DEVICES names it."""
    device, host = experiment.device, platform.node()
    if device.type != "cuda":
        return {"host": host}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    index = device.index or 0
    return {"host": host, "gpu": visible[index] if index < len(visible) and visible[index] else str(index)}


def _recipe_now(run: RunDirectory, experiment: Experiment, changes: Changes) -> dict[str, object]:
    """Write recipe.yaml anew where keys are changed; return the manifest's note of it."""
    if not changes:
        return run.recipe_note()
    if run.manifest.recipe_digest is None:  # of an earlier version: what it was trained by so far must not be lost
        run.update_manifest(run.recipe_note())
    return run.write_recipe(experiment.recipe)


def _changes_so_far(manifest: Manifest, changes: Changes, iteration: int) -> list[Mapping[str, object]]:
    """Return the changes of a manifest and these; those that a start which was cut has noted come once."""
    new = [{"iteration": iteration, "key": key, "before": old, "now": now} for key, (old, now) in changes.items()]
    return [*manifest.changes, *(change for change in new if change not in manifest.changes)]


def _earlier_results(run: RunDirectory, changes: Changes) -> list[Mapping[str, object]]:
    """Return the results of a manifest and, where a finished run is trained for longer, the one that it has now."""
    manifest = run.manifest
    if LENGTH not in changes or manifest.status not in FINISHED or not run.has_report:
        return manifest.earlier_results
    try:
        report = run.read_report()
    except RunError:  # a damaged one is not worth keeping
        return manifest.earlier_results
    result = {"iterations": manifest.iterations_done, "weights": report.weights, "final": report.final.to_json()}
    return [*manifest.earlier_results, result]
