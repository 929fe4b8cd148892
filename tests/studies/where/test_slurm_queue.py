"""What Slurm's commands say is read, and told in words."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.place import place_in
from mamlcli.studies.where.slurm_queue import (
    QueuedJob,
    cancel,
    check_commands,
    check_hope,
    environment_for_jobs,
    queued,
    refusal,
    waiting_words,
)

# As srun sets them for task 2 of 4 of a job that has a GPU.
OF_A_JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_MEM_PER_NODE": "4096",
    "SLURMD_NODENAME": "gpu03",
    "PMI_RANK": "2",
    "PMIX_NAMESPACE": "7.0",
    "CUDA_VISIBLE_DEVICES": "3",
}


def test_jobs_of_a_driver_that_is_a_job_itself_know_nothing_of_its_place():
    kept = {"PATH": "/usr/bin", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "group", "OMP_NUM_THREADS": "4"}
    assert environment_for_jobs({**OF_A_JOB, **kept}) == kept
    assert place_in(environment_for_jobs(OF_A_JOB)) is None


def test_jobs_that_have_not_ended_are_read_from_the_queue():
    printed = "12|PENDING|Resources\n13|RUNNING|None\n14|COMPLETED|None\n15|PENDING|(ReqNodeNotAvail, Nodes:a)\n"
    jobs = queued(printed)
    assert jobs == {
        "12": QueuedJob("12", "PENDING", "Resources"),
        "13": QueuedJob("13", "RUNNING", "None"),
        "15": QueuedJob("15", "PENDING", "ReqNodeNotAvail"),
    }
    words = waiting_words(list(jobs.values()))
    assert words.startswith("2 jobs wait in the queue of Slurm: Resources (machines are busy), ReqNodeNotAvail (")
    assert waiting_words([jobs["13"]]) == ""


def test_a_job_that_can_never_start_is_told_apart_from_one_that_waits():
    check_hope([QueuedJob("12", "PENDING", "Priority"), QueuedJob("13", "RUNNING", "PartitionTimeLimit")])
    with pytest.raises(MamlError, match=r"job 12: .*PartitionTimeLimit. In words, the partition allows less time"):
        check_hope([QueuedJob("12", "PENDING", "PartitionTimeLimit")])


def test_the_words_of_sbatch_are_found_in_the_error_of_a_command():
    text = (
        "Command exited with non-zero exit code.\nExit code: 1\nCommand:\nsbatch x.sh\nstdout:\n\nstderr:\n"
        "sbatch: error: invalid partition specified: none\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified\n\n"
    )
    words = "invalid partition specified: none. Batch job submission failed: Invalid partition name specified"
    assert refusal(text) == words
    assert refusal("no such file") == "no such file"


def test_a_machine_without_slurm_is_told_where_to_go(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MamlError, match="got no sbatch and no squeue and no scancel in PATH"):
        check_commands()
    with pytest.raises(MamlError, match="To end them now: scancel --name=mamlcli-1"):
        cancel("mamlcli-1")
