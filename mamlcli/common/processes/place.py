"""A process reads its place among the workers of one run from the environment here.

Launchers set it: `--workers` (its own variables), torchrun, Kubeflow and their like (RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT), and Slurm's srun. srun's tasks may as well be runs of their own, so that `--workers` has to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.launch import RENDEZVOUS

# A process is a worker where one of the first two is set, and then needs all four. Job scripts and images set the
# address for themselves, without any worker.
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

# Where srun's tasks meet unless MASTER_PORT says otherwise: one port for each job, below those that systems hand out.
_FIRST_PORT, _NUM_PORTS = 15000, 10000


@dataclass(frozen=True)
class Place:
    """Says where a worker stands among the workers of a run.

    Attributes:
        rank: from 0; worker 0 alone writes.
        num_workers: of the run, on all machines.
        local_rank: from 0 on each machine; the index of the worker's GPU.
        num_local: workers on this machine, as far as is known.
        rendezvous: the file where workers that were started here meet; None elsewhere.
        address: where the others meet, as in host:29500.
    """

    rank: int
    num_workers: int
    local_rank: int
    num_local: int
    rendezvous: str | None = None
    address: str | None = None


def place_in(environment: Mapping[str, str], asked: str | None = None) -> Place | None:
    """Return the place among workers that an environment gives to a process; None where it works alone.

    Args:
        environment: of the process.
        asked: what `--workers` says.

    Raises:
        MamlError: the variables of a launcher are half set, make no sense, or can be meant in two ways.
    """
    if RENDEZVOUS in environment:
        rank, num_workers = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        return Place(rank, num_workers, rank, num_workers, environment[RENDEZVOUS])
    # A world of one that does not say who is in it is a process alone.
    if environment.get("RANK") or environment.get("WORLD_SIZE") not in (None, "", "1"):
        return _place_of_torchrun(environment)
    if _is_task_of_srun(environment):
        return _place_of_srun(environment, asked)
    return None


def half_set(environment: Mapping[str, str], asked: str | None = None) -> str | None:
    """Return what to say where a process works alone though an address to meet at is set; None where that is meant.

    It is no error: images and job scripts set the address for all that runs there.

    Args:
        environment: of the process, which has no place among workers.
        asked: what `--workers` says.
    """
    address = [name for name in ("MASTER_ADDR", "MASTER_PORT") if environment.get(name)]
    if asked or not address or environment.get("WORLD_SIZE"):
        return None
    return (
        f"{' and '.join(address)} without RANK and WORLD_SIZE: this process is a run of its own, not a worker of one. "
        "To share a run: torchrun, or all four variables; --workers 1 says that one is meant"
    )


def _place_of_torchrun(environment: Mapping[str, str]) -> Place:
    if missing := [name for name in VARIABLES if not environment.get(name)]:
        raise MamlError(
            "environment",
            expected=f"all of {', '.join(VARIABLES)}, as torchrun sets them, or neither RANK nor WORLD_SIZE",
            got=f"{', '.join(name for name in VARIABLES if name not in missing)} without {', '.join(missing)}",
            next_step="Start with torchrun --no-python mamlcli train or with mamlcli train --workers N, or unset them",
        )
    num_workers = _integer(environment, "WORLD_SIZE", 1, None)
    rank = _integer(environment, "RANK", 0, num_workers - 1)
    # Launchers that start one process on each machine set no local rank.
    local_rank = _integer(environment, "LOCAL_RANK", 0, rank) if environment.get("LOCAL_RANK") else 0
    _integer(environment, "MASTER_PORT", 1, 65535)
    known = environment.get("LOCAL_WORLD_SIZE", "")
    num_local = max(int(known) if known.isdecimal() else 1, local_rank + 1)
    address = _address(environment["MASTER_ADDR"], environment["MASTER_PORT"])
    return Place(rank, num_workers, local_rank, num_local, address=address)


def _is_task_of_srun(environment: Mapping[str, str]) -> bool:
    """Return whether srun has started this process beside others; a batch script has a task's number, but no step."""
    num_tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS", "")
    task = environment.get("SLURM_PROCID", "")
    is_step = any(environment.get(name) for name in ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID", "SLURM_STEPID"))
    return task.isdecimal() and num_tasks not in ("", "1") and (is_step or int(task) > 0)


def _place_of_srun(environment: Mapping[str, str], asked: str | None) -> Place | None:
    variable = "SLURM_STEP_NUM_TASKS" if environment.get("SLURM_STEP_NUM_TASKS") else "SLURM_NTASKS"
    num_tasks = _integer(environment, variable, 2, None)
    rank = _integer(environment, "SLURM_PROCID", 0, num_tasks - 1)
    if asked == "1":
        return None
    if asked not in ("auto", str(num_tasks)):
        raise MamlError(
            "--workers",
            expected=f"{num_tasks}, to share one run among the tasks of srun, or 1, for a run in each",
            got=repr(asked) if asked else "nothing",
            why=f"This is task {rank} of {num_tasks} (SLURM_PROCID, {variable})",
            next_step="A run in each needs a --run-dir of its own. For one process: srun --ntasks=1",
        )
    local_rank = _integer(environment, "SLURM_LOCALID", 0, rank) if environment.get("SLURM_LOCALID") else 0
    on_machines = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE", "")
    most_local = max((int(count) for count in re.findall(r"(\d+)(?:\(x\d+\))?", on_machines)), default=1)
    host = environment.get("MASTER_ADDR") or _first_host(environment)
    job = environment.get("SLURM_JOB_ID", "")
    port = environment.get("MASTER_PORT") or str(_FIRST_PORT + (int(job) if job.isdecimal() else 0) % _NUM_PORTS)
    _integer({"MASTER_PORT": port}, "MASTER_PORT", 1, 65535)
    return Place(rank, num_tasks, local_rank, max(most_local, local_rank + 1), address=_address(host, port))


def _first_host(environment: Mapping[str, str]) -> str:
    """Return the first machine of a step, where its task 0 is, from a list such as `gpu[03-05,9],cpu1`."""
    names = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    found = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\])?([^,\[]*)", names)
    if found is None:
        raise MamlError(
            "environment",
            expected="the machine of task 0",
            got="neither SLURM_STEP_NODELIST nor MASTER_ADDR",
            next_step="Set MASTER_ADDR to it",
        )
    return "".join(part or "" for part in found.groups())


def _address(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _integer(environment: Mapping[str, str], name: str, least: int, most: int | None) -> int:
    """Return a variable as an integer within its bounds."""
    text = environment[name]
    value = int(text) if text.isdecimal() and len(text) < 10 else -1
    if value < least or (most is not None and value > most):
        bounds = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"
        raise MamlError(
            f"environment: {name}",
            expected=bounds,
            got=repr(text),
            next_step="Start with torchrun --no-python mamlcli train or srun, which set it, or unset it",
        )
    return value
