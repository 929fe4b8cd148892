"""A process reads its place among the workers of one run from the environment here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.launch import RENDEZVOUS

# What torchrun sets; all of it or nothing.
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """Says where a worker stands among the workers of a run.

    Attributes:
        rank: from 0; worker 0 alone writes.
        num_workers: of the run, on all machines.
        local_rank: from 0 on each machine; the index of the worker's GPU.
        num_local: workers on this machine, as far as is known.
        rendezvous: the file where workers that were started here meet; None with torchrun, which has an address.
    """

    rank: int
    num_workers: int
    local_rank: int
    num_local: int
    rendezvous: str | None = None


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Return the place among workers that an environment gives to a process; None where it works alone.

    Raises:
        MamlError: torchrun's variables are half set, or make no sense.
    """
    if RENDEZVOUS in environment:
        rank, num_workers = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        return Place(rank, num_workers, rank, num_workers, environment[RENDEZVOUS])
    given = [name for name in VARIABLES if environment.get(name)]
    if not given:
        return None
    if missing := [name for name in VARIABLES if name not in given]:
        raise MamlError(
            "environment",
            expected=f"all of {', '.join(VARIABLES)}, as torchrun sets them, or none",
            got=f"{', '.join(given)} without {', '.join(missing)}",
            next_step="Start with torchrun -m mamlcli train or with mamlcli train --workers N, or unset them",
        )
    num_workers = _integer(environment, "WORLD_SIZE", 1, None)
    rank = _integer(environment, "RANK", 0, num_workers - 1)
    local_rank = _integer(environment, "LOCAL_RANK", 0, rank)
    _integer(environment, "MASTER_PORT", 1, 65535)
    known = environment.get("LOCAL_WORLD_SIZE", "")
    return Place(rank, num_workers, local_rank, max(int(known) if known.isdigit() else 1, local_rank + 1))


def _integer(environment: Mapping[str, str], name: str, least: int, most: int | None) -> int:
    """Return a variable as an integer within its bounds."""
    text = environment[name]
    value = int(text) if text.isdecimal() else -1
    if value < least or (most is not None and value > most):
        bounds = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"
        raise MamlError(
            f"environment: {name}",
            expected=bounds,
            got=repr(text),
            next_step="Start with torchrun -m mamlcli train, which sets it, or unset it",
        )
    return value
