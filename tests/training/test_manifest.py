"""What a run's manifest says, and what it keeps a run from."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import Interrupted, RunError
from mamlcli.engine.execution import Execution
from mamlcli.engine.outer_loop import StepRecord
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.manifest import ExecutionRecord, recorded_execution, recorded_workers
from tests.helpers.running import TINY, cut_after, noise_pack, train_run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_manifest_tells_what_the_run_depends_on(logistic):
    manifest = RunDirectory.open(logistic).manifest
    assert manifest["status"] == "done"
    assert manifest["argv"] == ["mamlcli", "train"]
    assert manifest["iterations_done"] == 2
    assert (manifest["seed"], manifest["evaluation_seed"]) == (0, 0)
    assert manifest["num_parameters"] == 2 * 20 + 2
    assert manifest["device"].startswith("cpu")
    how = {"path": "explicit", "chunk": 2, "parallel": 1, "compile": False}
    assert how.items() <= manifest["execution"].items()
    assert (manifest["execution"]["threads"], manifest["execution"]["dtype"]) == (1, "float32")
    assert manifest["data"] == {"source": "logistic", "generated": True}
    assert {"mamlcli", "python", "platform", "torch", "numpy"} <= set(manifest["versions"])
    assert manifest["wall_s"] > 0
    assert manifest["peak_memory_mb"] > 1
    assert manifest["started_at"] <= manifest["finished_at"]
    assert manifest["resumed_from"] == []


def test_run_is_not_resumed_on_other_data(tmp_path):
    names = [f"class{index}" for index in range(9)]
    path = noise_pack(tmp_path / "p.npz", names)
    words = (
        f"tasks.path={path}",
        "tasks.ways=2",
        "tasks.shots=1",
        "validation.every=null",
        "outer.iterations=3",
        "model.width=3",
        "model.depth=1",
        "outer.tasks=2",
        "evaluation.tasks=2",
        "evaluation.split=train",
    )
    recipe = load_recipe("folder", words)[1]
    run = RunDirectory.create(tmp_path / "run", recipe, "folder")

    def go_on(progress=None):
        return train_run(run, build(recipe, splits=splits_of_training(recipe)), argv=[], progress=progress)

    progress, _ = cut_after(StepRecord, 2, Interrupted("now"))
    with pytest.raises(Interrupted):
        go_on(progress)
    kept = list(run.read_metrics())
    noise_pack(path, names, seed=1)
    with pytest.raises(RunError, match=r"expected the data it was trained on .* got other data"):
        go_on()
    assert list(run.read_metrics()) == kept
    noise_pack(path, names, seed=0)
    assert go_on().weights == "last, iteration 3"


# How a run is computed ---------------------------------------------------------------------------------------------

RECORD = ExecutionRecord(Execution("explicit", 4, 2, False), 1, "float64", num_workers=2, num_runs=3)


def test_record_of_the_execution_is_read_back():
    assert ExecutionRecord.from_json(RECORD.to_json()) == RECORD


def test_record_of_an_earlier_version_is_of_one_process_and_one_run():
    old = {"path": "loop", "chunk": 1, "threads": 2}
    assert ExecutionRecord.from_json(old) == ExecutionRecord(Execution("loop", 1), 2, "")


@pytest.mark.parametrize("key", ["path", "chunk", "threads"])
def test_record_that_says_too_little_is_none(key):
    assert ExecutionRecord.from_json({name: value for name, value in RECORD.to_json().items() if name != key}) is None


def test_run_goes_on_as_it_was_computed_only_with_as_many_workers_and_runs(tmp_path):
    run = RunDirectory.create(tmp_path / "run", load_recipe("logistic", TINY)[1], "logistic")
    assert recorded_execution(run) is None
    assert recorded_workers(run) == 1
    run.update_manifest({"execution": RECORD.to_json()})
    assert recorded_execution(run, num_workers=2, num_runs=3) == RECORD
    assert recorded_execution(run, num_workers=1, num_runs=3) is None
    assert recorded_execution(run, num_workers=2, num_runs=1) is None
    assert recorded_workers(run) == 2
