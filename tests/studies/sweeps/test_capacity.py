"""The capacity arm of a study: its jobs, and what they reach."""

import json

import pytest

from mamlcli.studies.sweeps.axes import depth_sweep
from mamlcli.studies.sweeps.capacity import PlannedCapacity, capacity_jobs, run_capacity
from tests.helpers.studies import recipe_of


def test_capacity_jobs_get_the_threads_of_the_cells(tmp_path):
    sweep = depth_sweep("logistic", recipe_of("logistic"), depths=[1, 2], num_seeds=1)
    jobs = capacity_jobs(sweep, tmp_path, num_threads=3)
    assert [job.payload.num_threads for job in jobs] == [3, 3]


def test_capacity_arm_reaches_the_floor_at_every_depth(tmp_path):
    losses = []
    for depth in (1, 2):
        recipe = recipe_of("linear-regression", f"model.depth={depth}", "tasks.condition_number=1")
        file = tmp_path / "capacity" / f"{depth}.json"
        run_capacity(PlannedCapacity(recipe, file, num_threads=1), lambda: False)
        record = json.loads(file.read_text())
        assert record["num_converged"] == record["num_tasks"]
        losses.append(record["loss"]["mean"])
        # Noise 0.3: 0.045; 3 weights from 1000 points add 3 / 1000 of it.
        assert losses[-1] == pytest.approx(record["references"]["posterior mean"]["loss"]["mean"], rel=1e-2)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
