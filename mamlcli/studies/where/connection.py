"""A connection is a Dask cluster that is there for a while, and what has to be known to use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Connection:
    """Says what a Dask cluster offers. Whoever made it ends it, and with it all that it started.

    Attributes:
        client: connected to the scheduler; there need be no worker yet.
        words: what it is, for a line of output, as in "slurm, profile gpu: up to 8 jobs".
        num_processes: jobs at a time, at most: as many are handed to Dask, so that an adaptive cluster sees how many
            workers it could use. None for as many as the workers that are there have room for.
        num_threads: cores that each job may use. None for what each worker says of itself.
        pending: says what a worker that does not come waits for, in the words of the batch system; empty if unknown.
            It raises MamlError where no worker is there and none will come.
        timeout_s: seconds within which the first worker is to be there.
    """

    client: Client
    words: str
    num_processes: int | None = None
    num_threads: int | None = None
    pending: Callable[[], str] = lambda: ""
    timeout_s: float = 60.0
