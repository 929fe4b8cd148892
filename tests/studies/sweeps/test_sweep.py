"""The study engine: cells, retries, resumption, statistics, the choice of inner learning rates."""

import os
import signal
import time
from dataclasses import replace

import pytest

from mamlcli.common.errors import Interrupted, MamlError, RecipeError
from mamlcli.common.processes.pool import Job, run_jobs
from mamlcli.common.processes.signals import interruption_flag
from mamlcli.recipe.files import load_recipe
from mamlcli.studies.sweeps.sweep import AxisValue, cells_of, check_sweep
from tests.helpers.studies import (
    tiny_sweep,
)

# Cells -------------------------------------------------------------------------------------------------------


# The study folder -----------------------------------------------------------------------------------------------


def test_all_values_that_the_recipe_cannot_have_are_named_at_once():
    with pytest.raises(RecipeError) as caught:
        cells_of(tiny_sweep(depths=(0, 1, -2)))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--depths 0", "--depths -2"]


def test_values_that_the_model_cannot_have_are_refused_before_anything_is_trained():
    _, recipe = load_recipe("logistic", ["model.linear_width=1"])
    values = tuple(AxisValue(n, f"{n} layers", {"model.linear_layers": n}, f"--layers {n}") for n in (0, 1, 2))
    sweep = replace(tiny_sweep(), recipe=recipe, values=values)
    with pytest.raises(MamlError, match=r"--layers 1: model\.linear_width.*>= 2") as caught:
        check_sweep(sweep)
    assert len(caught.value.problems) == 2


# Statistics -----------------------------------------------------------------------------------------------------


# The inner learning rate ------------------------------------------------------------------------------------------


def test_choosing_rates_needs_meta_validation():
    with pytest.raises(MamlError, match=r"--inner-lrs.*validation\.every=null"):
        check_sweep(tiny_sweep(inner_lrs=(0.1, 0.2), overrides=["validation.every=null"]))


# The pool ---------------------------------------------------------------------------------------------------------


def work(payload, is_stopped):
    if payload.get("error"):
        raise MemoryError("4 GiB")
    deadline = time.monotonic() + payload.get("wait_s", 0.0)
    while time.monotonic() < deadline:
        if is_stopped():
            raise Interrupted("stopped")
        time.sleep(0.02)
    return {"pid": os.getpid()}


def test_a_worker_takes_job_after_job_and_a_failed_job_is_tried_in_a_new_one():
    pids = []
    jobs = [Job("a", work), Job("bad", work, {"error": True}), Job("b", work)]
    outcomes = run_jobs(jobs, num_workers=1, on_start=lambda job, pid: pids.append((job.key, pid)))
    assert [outcomes[key].status for key in ("a", "bad", "b")] == ["done", "failed", "done"]
    assert outcomes["bad"].attempts == 2
    assert "out of memory (4 GiB)" in outcomes["bad"].reason
    of = dict(reversed(pids))
    assert of["a"] == of["bad"] != of["b"]


def test_a_job_that_fails_without_hope_is_tried_once_and_its_worker_goes_on():
    pids = []
    jobs = [Job("bad", work, {"error": True}), Job("b", work)]
    outcomes = run_jobs(jobs, num_workers=1, hopeless=["MemoryError"], on_start=lambda _, pid: pids.append(pid))
    assert (outcomes["bad"].status, outcomes["bad"].attempts, outcomes["b"].status) == ("failed", 1, "done")
    assert len(set(pids)) == 1


def end_own_process(payload, is_stopped):
    """Get SIGTERM as a training does: it stops in order, and says that it was interrupted."""
    with interruption_flag() as is_interrupted:
        os.kill(os.getpid(), signal.SIGTERM)
        if is_interrupted():
            raise Interrupted("interrupted")
    return {}


def test_a_job_whose_worker_alone_gets_sigterm_is_tried_again_and_then_failed():
    outcomes = run_jobs([Job("a", end_own_process), Job("b", work)], num_workers=1)
    assert (outcomes["a"].status, outcomes["a"].attempts) == ("failed", 2)
    assert "SIGTERM" in outcomes["a"].reason
    assert outcomes["b"].status == "done"


def test_an_interruption_stops_the_jobs_and_starts_no_more():
    started = []

    def start(job, pid):
        started.append(job.key)
        signal.raise_signal(signal.SIGINT)

    jobs = [Job("long", work, {"wait_s": 60.0}), Job("next", work)]
    began = time.monotonic()
    with pytest.raises(Interrupted):
        run_jobs(jobs, num_workers=1, on_start=start)
    assert started == ["long"]
    assert time.monotonic() - began < 30
