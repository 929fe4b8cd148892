"""Studies on a true Slurm: `make test-extras`. Its daemons are Debian's and run here, see tests/helpers/slurm.py."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.jobs import Job
from mamlcli.common.processes.pool import run_jobs
from tests.helpers.processes import wait_for
from tests.helpers.running import assert_same_results, end_of, iterations_done
from tests.helpers.slow_jobs import count_up

pytestmark = pytest.mark.filterwarnings("ignore")

PROFILE = """\
default:
  interface: lo
  cpus: 1
  memory: 2G
  max_jobs: 3
  time: 20
"""

# How long a study may take where the machine is busy; on two idle cores it takes half a minute.
_LONG_S = 900.0

# 12 cells, each a job of its own.
STUDY = (
    *("sweep-depth", "logistic", "--depths", "1,2,3,4", "--seeds", 1, "--inner-lrs", "0.25,0.5,1", "--no-capacity"),
    *("outer.iterations=60", "outer.tasks=2", "outer.checkpoint_every=4", "validation.every=20"),
    *("validation.tasks=4", "evaluation.tasks=10", "execution.threads=1", "execution.device=cpu"),
)


@pytest.fixture(autouse=True)
def profile(slurm, tmp_path):
    """The folder of the test, with profiles."""
    (tmp_path / "cluster.yaml").write_text(PROFILE)
    return tmp_path / "cluster.yaml"


def runs_in(study: Path) -> list[Path]:
    return sorted(path.parent.relative_to(study) for path in study.rglob("manifest.json"))


def progress_of(study: Path) -> int:
    """Return the meta-iterations that the cells of a study tell of."""
    return sum(iterations_done(study / run) for run in runs_in(study)) if study.exists() else 0


def executor_of(connection):
    from mamlcli.studies.where.dask_executor import DaskExecutor

    return DaskExecutor(connection, num_processes=connection.num_processes, num_threads=1)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_study_whose_driver_and_two_jobs_were_killed_has_the_bits_of_a_local_one(slurm, program, tmp_path):
    local = end_of(program.start(*STUDY, "--on", "local", "--jobs", 1, "--dir", "local"), timeout_s=_LONG_S)
    assert local.code == 0, local.err
    study = tmp_path / "study"

    killed = program.start(*STUDY, "--on", "slurm", "--dir", "study")
    wait_for(lambda: progress_of(study) > 0 or killed.poll() is not None, timeout_s=_LONG_S)
    killed.kill()
    killed.communicate()
    before = progress_of(study)
    wait_for(lambda: not slurm.jobs())  # they end by themselves

    again = program.start(*STUDY, "--on", "slurm", "--dir", "study")
    wait_for(lambda: progress_of(study) > before or again.poll() is not None, timeout_s=_LONG_S)
    wait_for(lambda: len(slurm.jobs("RUNNING")) > 1 or again.poll() is not None)
    first, second, *_ = slurm.jobs("RUNNING")
    slurm("scancel", first)
    slurm("scontrol", "requeue", second)
    done = end_of(again, timeout_s=_LONG_S)
    assert done.code == 0, done.err

    assert done.out.replace("study/", "local/") == local.out
    assert len(runs_in(study)) == 12
    assert runs_in(study) == runs_in(tmp_path / "local")
    for run in runs_in(study):
        assert_same_results(tmp_path / "local" / run, study / run)
    wait_for(lambda: not slurm.jobs())
    logs = list((tmp_path / "cache" / "mamlcli" / "slurm").iterdir())
    assert len(logs) == 1, "of the driver that was killed alone"


def test_ctrl_c_saves_every_cell_and_leaves_no_job(slurm, program, tmp_path):
    study = tmp_path / "study"
    driver = program.start(*STUDY, "outer.iterations=100000", "--on", "slurm", "--dir", "study")
    wait_for(lambda: progress_of(study) > 0 or driver.poll() is not None, timeout_s=_LONG_S)
    driver.send_signal(signal.SIGINT)
    began = time.monotonic()
    done = end_of(driver)
    assert done.code == 130, done.err
    assert "what was done is saved" in done.err
    wait_for(lambda: not slurm.jobs())
    assert time.monotonic() - began < 60
    states = {json.loads((study / run / "manifest.json").read_text())["status"] for run in runs_in(study)}
    assert states == {"interrupted"}


def test_a_driver_that_is_a_slurm_job_itself_passes_on_nothing_of_its_own(slurm, program, tmp_path):
    import sys

    words = [*map(str, STUDY), "--depths", "1", "outer.iterations=4", "--on", "slurm", "--dir", "study"]
    script = tmp_path / "driver.sh"
    # As a step of several tasks has it: of which the workers are to know nothing.
    variables = "export SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 CUDA_VISIBLE_DEVICES=7"
    script.write_text(f"#!/bin/bash\n{variables}\nexec {sys.executable} -m mamlcli {' '.join(words)}\n")
    slurm("sbatch", "--wait", "--mem=1G", "--output=driver.log", "--chdir", tmp_path, script)
    assert "Figure: study/figure.png" in (tmp_path / "driver.log").read_text()
    manifests = [json.loads((tmp_path / "study" / run / "manifest.json").read_text()) for run in runs_in(Path("study"))]
    assert [manifest["status"] for manifest in manifests] == ["done"] * 3, "one depth, three rates"


def test_at_the_wall_time_a_job_is_saved_and_goes_on_in_another(slurm, tmp_path):
    from mamlcli.studies.where.slurm import connected

    counted = tmp_path / "counted"

    def shorten() -> None:
        wait_for(lambda: len(lines_of(counted)) > 10)
        slurm("scontrol", "update", f"JobId={slurm.jobs('RUNNING')[0]}", "TimeLimit=1")

    changing = threading.Thread(target=shorten)
    changing.start()
    with connected("") as connection:
        job = Job("count", count_up, (str(counted), 10_000))

        def end_soon() -> None:
            """Let the count end once it goes on in another job."""
            wait_for(lambda: len(set(lines_of(counted))) > 1)
            counted.write_text("\n".join(dict.fromkeys(lines_of(counted))) + "\n" + "last\n" * 10_000)

        ending = threading.Thread(target=end_soon)
        ending.start()
        outcome = run_jobs([job], executor=executor_of(connection), max_attempts=1)["count"]
        ending.join()
    changing.join()
    assert outcome.status == "done", outcome.reason
    assert isinstance(outcome.value, list)
    assert len(outcome.value) == 3  # two jobs, and the last word


REFUSED = {
    "partition: none": r"a refusal of sbatch: invalid partition specified: none",
    "time: 2-00:00:00": r"one that Slurm leaves in the queue: PartitionTimeLimit.*the partition allows less time",
    "cpus: 64": r"one that Slurm leaves in the queue: PartitionConfig|a refusal of sbatch: ",
    "prologue: [nosuchprogram, exit 3]": r"jobs whose workers reach this process.*nosuchprogram: command not found",
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_slurm_cannot_give_is_told_in_its_words(key, slurm, profile, tmp_path):
    from mamlcli.studies.where.probe import probe
    from mamlcli.studies.where.slurm import connected

    profile.write_text(f"{PROFILE}\nother:\n  interface: lo\n  {key}\n")
    with pytest.raises(MamlError) as caught, connected("other") as connection:
        probe(connection, tmp_path)
    assert re.search(REFUSED[key], str(caught.value)), str(caught.value)
    wait_for(lambda: not slurm.jobs())


def test_a_worker_that_does_not_come_in_time_is_told_with_what_it_waits_for(slurm, profile, tmp_path):
    from mamlcli.studies.where.probe import probe
    from mamlcli.studies.where.slurm import connected

    profile.write_text("default:\n  interface: lo\n  partition: closed\n")
    with (
        pytest.raises(MamlError, match=r"got none: 1 job waits in the queue of Slurm: PartitionDown"),
        connected("") as connection,
    ):
        probe(replace(connection, timeout_s=10.0), tmp_path)
    wait_for(lambda: not slurm.jobs())
