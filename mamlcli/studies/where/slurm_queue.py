"""Slurm's own commands are called here: what its queue says of jobs, and the end of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mamlcli.common.errors import MamlError
from mamlcli.common.words import one_line

# Of the job in which the command itself may run: a worker's job has its own.
_OF_A_JOB = re.compile(r"(SLURM|SLURMD|SRUN|PMI|PMI2|PMIX)_.*|SLURM_.*|(CUDA|ROCR)_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL")

# Of the cluster, not of a job.
_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS")

_ANSWER_S = 30.0

# Reasons for which a job stays in the queue whatever happens to others.
HOPELESS = {
    "AssocMaxCpuPerJobLimit": "it asks for more cores than the account may have in one job",
    "AssocMaxMemPerJob": "it asks for more memory than the account may have in one job",
    "AssocMaxWallDurationPerJobLimit": "it asks for more time than the account may have in one job",
    "BadConstraints": "no machine has what it asks for",
    "InvalidAccount": "the account is not known",
    "InvalidQOS": "the quality of service (qos) is not known",
    "PartitionConfig": "the partition has no machine with so many cores, or so much memory",
    "PartitionNodeLimit": "the partition has no room for a job of this size",
    "PartitionTimeLimit": "the partition allows less time",
    "QOSMaxCpuPerJobLimit": "it asks for more cores than the quality of service allows",
    "QOSMaxMemoryPerJob": "it asks for more memory than the quality of service allows",
    "QOSMaxWallDurationPerJobLimit": "it asks for more time than the quality of service allows",
}

_WAITING = {
    "BeginTime": "Slurm lets it begin later",
    "PartitionDown": "the partition is closed",
    "PartitionInactive": "the partition is closed",
    "Priority": "others go first",
    "ReqNodeNotAvail": "machines that it needs are not there",
    "Resources": "machines are busy",
}


@dataclass(frozen=True)
class QueuedJob:
    """What Slurm's queue says of a job.

    Attributes:
        id: the number of the job.
        state: PENDING, RUNNING, COMPLETING and the like.
        reason: why it waits, in Slurm's word; "None" for one that does not.
    """

    id: str
    state: str
    reason: str


def environment_for_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what the job of this process, if it runs in one, says of itself."""
    return {
        name: value for name, value in environment.items() if name in _OF_THE_CLUSTER or not _OF_A_JOB.fullmatch(name)
    }


def check_commands() -> None:
    """Raise MamlError where Slurm's commands are not there."""
    if missing := [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]:
        raise MamlError(
            "--on slurm",
            expected="the commands of Slurm",
            got=f"no {' and no '.join(missing)} in PATH",
            next_step="Run it where jobs are submitted, such as a login node of the cluster",
        )


def queue_command(name: str) -> list[str]:
    """Return the command that prints the jobs of a name, for `queued`."""
    return ["squeue", "--noheader", f"--name={name}", "--states=all", "--format=%i|%T|%r"]


def queued(printed: str) -> dict[str, QueuedJob]:
    """Return the jobs, by their ids, that `queue_command` has printed and that have not ended."""
    found = {}
    for line in printed.splitlines():
        job, state, reason = [*line.strip().split("|"), "", ""][:3]
        if job and state in ("PENDING", "RUNNING", "CONFIGURING", "SUSPENDED", "REQUEUED", "RESIZING"):
            found[job] = QueuedJob(job, state, reason.strip("()").split(",")[0])
    return found


def cancel(name: str) -> None:
    """Cancel all jobs of a name; what Slurm says to it does not matter, they may have ended."""
    user = str(getattr(os, "getuid", int)())
    command = ["scancel", f"--name={name}", f"--user={user}"]
    try:
        subprocess.run(command, env=environment_for_jobs(os.environ), capture_output=True, timeout=_ANSWER_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MamlError(
            "--on slurm",
            expected="an answer of scancel",
            got=one_line(str(error)),
            why="Its jobs end by themselves when they find nobody to work for",
            next_step=f"To end them now: scancel --name={name}",
        ) from error


def waiting_words(jobs: Sequence[QueuedJob]) -> str:
    """Return why jobs wait, as in `2 jobs wait in the queue of Slurm: Resources (machines are busy)`."""
    reasons = Counter(job.reason for job in jobs if job.state == "PENDING")
    if not reasons:
        return ""
    words = _WAITING | HOPELESS
    told = [f"{reason} ({words[reason]})" if reason in words else reason for reason in reasons]
    number = reasons.total()
    jobs_wait = "1 job waits" if number == 1 else f"{number} jobs wait"
    return f"{jobs_wait} in the queue of Slurm: {', '.join(told)}"


def check_hope(jobs: Sequence[QueuedJob]) -> None:
    """Raise MamlError where a job waits for what will not come."""
    for job in jobs:
        if job.state == "PENDING" and job.reason in HOPELESS:
            raise MamlError(
                f"--on slurm: job {job.id}",
                expected="a job that can start",
                got=f"one that Slurm leaves in the queue: {job.reason}",
                why=f"In words, {HOPELESS[job.reason]}",
                next_step="Change the profile in cluster.yaml; sinfo -o '%P %l %c %m %G' prints what there is",
            )


def refusal(text: str) -> str:
    """Return the words of sbatch in the text of dask-jobqueue's error about a command that failed."""
    _, separator, words = text.rpartition("stderr:\n")
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in words.splitlines() if line.strip()]
    return one_line(". ".join(line.strip().rstrip(".") for line in lines)) if separator and lines else one_line(text)
