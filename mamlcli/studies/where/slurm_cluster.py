"""A Dask cluster whose workers are jobs of Slurm: as many as there is work for, none that waits for ever.

Dask's own ways to adapt ask for no job in the place of one that was lost, and wait for one that sbatch refused; so the
number of jobs is kept here, by what Slurm's queue says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Security, Status
from distributed.deploy.spec import ProcessInterface

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.signals import ctrl_c_unchanged
from mamlcli.studies.where.profiles import WARNING_S, Profile
from mamlcli.studies.where.slurm_queue import (
    QueuedJob,
    check_hope,
    environment_for_jobs,
    queue_command,
    queued,
    refusal,
    waiting_words,
)

with ctrl_c_unchanged():  # from this import on it would end the process without a word
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob

# How often the number of jobs is looked at, and how often Slurm is asked about them: in many clusters it answers many.
_FIT_S, _ASK_S = 1.0, 5.0

# How long a worker has nothing to do before its job is ended.
_IDLE_S = 30.0

# How long Slurm is left alone after it has refused a job while others run.
_REFUSED_S = 60.0

# How many jobs Slurm may refuse, one after the other, where it has taken some before: it may be away for a while.
_MOST_REFUSED = 10

# How long a worker looks for its scheduler.
_DEATH_S = 60

# How many jobs may end, one after the other, before their workers are there.
_MOST_FALSE_STARTS = 3

_UNFINISHED = ("queued", "no-worker", "processing", "waiting")


@dataclass
class Submissions:
    """What became of the jobs that were asked for.

    Attributes:
        refused: what sbatch said to the last one that it refused; empty after one that it took.
        refused_at: when, on the clock of `time.monotonic`.
        num_refused: how many it refused since the last one that it took.
        false_starts: logs of jobs that ended before their workers were there, since the last that was.
        jobs: what Slurm's queue has said last.
        silence: why it said nothing the last time.
    """

    refused: str = ""
    refused_at: float = -_REFUSED_S
    num_refused: int = 0
    false_starts: list[Path] = field(default_factory=list)
    jobs: dict[str, QueuedJob] = field(default_factory=dict)
    silence: str = ""


class WorkerJob(SLURMJob):  # type: ignore[misc]  # dask-jobqueue has no types
    """A job of Slurm in which one worker runs; where sbatch refuses it, that is noted."""

    submissions: Submissions

    async def start(self) -> None:
        """Ask Slurm for the job."""
        try:
            await super().start()
            self.submissions.refused, self.submissions.num_refused = "", 0
        except (RuntimeError, OSError, ValueError) as error:
            self.submissions.refused, self.submissions.refused_at = refusal(str(error)), time.monotonic()
            self.submissions.num_refused += 1
            await ProcessInterface.start(self)  # without a job, so that it can be closed

    @staticmethod
    async def _call(cmd: Sequence[str], **options: Any) -> str:
        printed: str = await SLURMJob._call(cmd, env=environment_for_jobs(os.environ), **options)
        return printed


class SlurmWorkers(SLURMCluster):  # type: ignore[misc]
    """A scheduler in this process, and jobs of Slurm for what it has to do.

    Args:
        profile: what each job asks for.
        name: of the jobs; no other jobs have it.
        folder: for logs and keys, on a file system that the workers share.
    """

    def __init__(self, profile: Profile, name: str, folder: Path) -> None:
        self.profile, self.jobs_name, self.folder = profile, name, folder
        self.submissions = Submissions()
        self._seen: set[str] = set()
        self._idle_since: dict[str, float] = {}
        self._asked = 0.0
        self._bug: Exception | None = None
        job_class = type("StudyJob", (WorkerJob,), {"submissions": self.submissions})
        super().__init__(
            job_cls=job_class,
            name=name,
            security=keys_in(folder),
            silence_logs="critical",
            interface=profile.interface,
            scheduler_options={
                "interface": profile.interface,
                "dashboard": False,
                "dashboard_address": "127.0.0.1:0",
            },
            **job_keywords(profile, name, folder),
        )
        self.loop.add_callback(self._keep_fitting)

    def pending(self) -> str:
        """Return what jobs wait for, in words; empty where none waits.

        Raises:
            MamlError: no worker is there, and none will be.
        """
        now = self.submissions
        if self._bug is not None and self.status == Status.running:
            raise self._bug
        if not self._workers():
            if not self._seen or now.num_refused >= _MOST_REFUSED:
                _check_refused(now)
            _check_false_starts(now)
            check_hope(list(now.jobs.values()))
        if now.silence:
            return f"squeue does not answer: {now.silence}"
        return waiting_words(list(now.jobs.values()))

    def _workers(self) -> set[str]:
        return {worker.name for worker in self.scheduler.workers.values()}

    async def _keep_fitting(self) -> None:
        try:
            while self.status == Status.running:
                await self._ask()
                self._forget_lost()
                await self._fit()
                await asyncio.sleep(_FIT_S)
        except Exception as error:  # a bug: without this loop no job comes any more, and the study is told so
            self._bug = error

    async def _ask(self) -> None:
        """Ask Slurm about the jobs."""
        if time.monotonic() - self._asked < _ASK_S or not self.workers:
            return
        try:
            printed = await WorkerJob._call(queue_command(self.jobs_name))
            self.submissions.jobs, self.submissions.silence = queued(printed), ""
            self._asked = time.monotonic()
        except (RuntimeError, OSError) as error:
            self.submissions.silence, self._asked = refusal(str(error)), time.monotonic()

    def _forget_lost(self) -> None:
        """Give up the jobs that sbatch refused, and those that Slurm has no more; new ones take their places."""
        present = self._workers()
        if present - self._seen:
            self.submissions.false_starts.clear()
        self._seen |= present
        for name, job in list(self.workers.items()):
            if name in present or (job.job_id and self._is_queued(job)):
                continue
            if job.job_id and name not in self._seen:
                self.submissions.false_starts.append(log_of(self.folder, job.job_id))
            self.workers.pop(name, None)
            self.worker_spec.pop(name, None)
            # One that Slurm requeued is not in the queue for a moment, and then is again.
            self._futures.add(asyncio.ensure_future(job.close()))

    def _is_queued(self, job: WorkerJob) -> bool:
        """Return whether Slurm has a job; one that was submitted since it was asked is taken for one that it has."""
        began: float = job.__dict__.setdefault("first_seen", time.monotonic())
        return job.job_id in self.submissions.jobs or began >= self._asked or bool(self.submissions.silence)

    async def _fit(self) -> None:
        """Ask for jobs, or end some, so that there are as many as there is work for."""
        unfinished = sum(task.state in _UNFINISHED for task in self.scheduler.tasks.values())
        # Before there is work, a first worker is looked at.
        wanted = min(self.profile.max_jobs, max(unfinished, 0 if self._seen else 1))
        can_ask = time.monotonic() - self.submissions.refused_at >= _REFUSED_S
        if wanted > len(self.worker_spec) and can_ask and len(self.submissions.false_starts) < _MOST_FALSE_STARTS:
            self.scale(wanted)
        idle = self._idle(len(self.worker_spec) - wanted)
        if idle:
            await self.scale_down(idle)
        elif set(self.worker_spec) - set(self.workers):
            await self._correct_state()

    def _idle(self, number: int) -> list[str]:
        """Return, up to a number, the names of workers that have had nothing to do for a while, or are not there."""
        busy = {worker.name for worker in self.scheduler.workers.values() if worker.processing or worker.has_what}
        now = time.monotonic()
        self._idle_since = {name: self._idle_since.get(name, now) for name in self.workers if name not in busy}
        present = self._workers()
        names = sorted(self._idle_since, key=lambda name: name in present)  # first those that wait in the queue
        return [name for name in names if now - self._idle_since[name] >= _IDLE_S][: max(number, 0)]


def keys_in(folder: Path) -> Security:
    """Write a certificate and its key into a folder, and return that only those who can read them may connect."""
    made = Security.temporary()
    paths = {}
    for name, content in {"ca": made.tls_ca_file, "cert": made.tls_worker_cert, "key": made.tls_worker_key}.items():
        path = folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_text(content, encoding="ascii")
        paths[name] = str(path)
    roles = ("client", "scheduler", "worker")
    certificates = {f"tls_{role}_cert": paths["cert"] for role in roles}
    keys = {f"tls_{role}_key": paths["key"] for role in roles}
    return Security(require_encryption=True, tls_ca_file=paths["ca"], **certificates, **keys)


def remove_keys(folder: Path) -> None:
    """Remove the certificate and its key from a folder; whoever is connected stays so."""
    for path in folder.glob("*.pem"):
        with contextlib.suppress(OSError):
            path.unlink()


def log_of(folder: Path, job: str) -> Path:
    """Return the file with the output of a job."""
    return folder / f"job-{job}.log"


def job_keywords(profile: Profile, name: str, folder: Path) -> dict[str, Any]:
    """Return what dask-jobqueue makes the script of a job from; nothing is left to the user's settings of Dask."""
    output = str(folder).replace("%", "%%")
    asked = {"partition": profile.partition, "account": profile.account, "qos": profile.qos, "gres": profile.gres}
    return {
        "cores": 1,  # jobs of a worker at a time
        "processes": 1,
        "memory": "0",  # Slurm watches it
        "nanny": False,
        "job_name": name,
        "job_cpu": profile.cpus,
        "job_mem": profile.memory,
        "walltime": profile.time,
        "death_timeout": _DEATH_S,
        "shebang": "#!/usr/bin/env bash",
        "python": f"exec {shlex.quote(profile.python or sys.executable)}",  # in place of the shell, for its signals
        "worker_command": "distributed.cli.dask_worker",
        "worker_extra_args": [
            *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
            *("--preload", "mamlcli.studies.where.slurm_worker"),
        ],
        "local_directory": '"${TMPDIR:-/tmp}"',
        "log_directory": str(folder),
        "job_script_prologue": profile.prologue,
        "job_directives_skip": ["#SBATCH -e ", "#SBATCH -o ", "#SBATCH -p ", "#SBATCH -A "],
        "job_extra_directives": [
            f'--output="{output}/job-%j.log"',
            f"--signal=B:TERM@{WARNING_S}",
            *(f"--{option}={value}" for option, value in asked.items() if value),
            *profile.options,
        ],
    }


def _check_refused(now: Submissions) -> None:
    if now.refused:
        raise MamlError(
            "--on slurm",
            expected="a job that Slurm takes",
            got=f"a refusal of sbatch: {now.refused}",
            next_step="Change the profile in cluster.yaml; sinfo -o '%P %l %c %m %G' prints what there is",
        )


def _check_false_starts(now: Submissions) -> None:
    if now.false_starts and (len(now.false_starts) >= _MOST_FALSE_STARTS):
        log = now.false_starts[-1]
        raise MamlError(
            "--on slurm",
            expected="jobs whose workers reach this process",
            got=f"{len(now.false_starts)} that ended before: {last_words(log)}",
            why=f"The whole of it is in {log}",
            next_step="Change the profile in cluster.yaml (prologue, python, interface, memory)",
        )


def last_words(log: Path) -> str:
    """Return the last line of a job's output that says something."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"no output ({error.strerror})"
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if "rror" in line or "not found" in line]
    return repr((errors or said or ["no output"])[-1][:300])
