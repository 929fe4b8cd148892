"""The places that `--on` names: which there are, and how each is opened for a study."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.pool import Executor
from mamlcli.runs.lock import is_lock_held, taken_error
from mamlcli.studies.where import slurm, tcp
from mamlcli.studies.where.connection import Connection
from mamlcli.studies.where.dask_executor import DaskExecutor
from mamlcli.studies.where.local import gpus_executor, gpus_here, has_several_gpus, local_executor
from mamlcli.studies.where.probe import OnWait, Probed, probe, words_of

LOCAL, GPUS = "local", "gpus"

# Places that are a Dask cluster: what stands before the colon, and what opens it, given what stands after it.
CLUSTERS: dict[str, Callable[[str], AbstractContextManager[Connection]]] = {
    "slurm": slurm.connected,
    "tcp": tcp.connected,
}

FORMS = "local, gpus[:N], slurm[:PROFILE] or tcp://HOST:PORT"

# What each cluster needs beside mamlcli's own packages, by the name that it is imported by.
_PACKAGES = {"slurm": ("distributed", "dask_jobqueue", "cryptography"), "tcp": ("distributed",)}


@dataclass(frozen=True)
class Place:
    """A place is what `--on` names.

    Attributes:
        kind: the word before the colon.
        argument: what stands after it; empty for nothing.
    """

    kind: str
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    @property
    def is_here(self) -> bool:
        """Whether it is this machine."""
        return self.kind in (LOCAL, GPUS)


@dataclass(frozen=True)
class Wish:
    """A wish says where the jobs of a study are to be done, and how many at a time.

    Attributes:
        on: the words of `--on`; None for each GPU where there are several, else here.
        jobs: at a time, at most; by default as many as the place is made for.
        per_gpu: on each GPU; by default 1.
    """

    on: str | None = None
    jobs: int | None = None
    per_gpu: int | None = None

    def place(self, device: str) -> Place:
        """Return the place of a study whose recipe computes on a device.

        Raises:
            MamlError: no place has that name, or it has no use for `per_gpu`.
        """
        place = place_of(self.on) if self.on is not None else self._default(device)
        if self.per_gpu is not None and place.kind != GPUS:
            next_step = "Use --on gpus, or --jobs for cells at a time"
            raise MamlError("--per-gpu", expected="--on gpus", got=f"--on {place}", next_step=next_step)
        return place

    def _default(self, device: str) -> Place:
        is_for_all = self.jobs is None and has_several_gpus(device)
        return Place(GPUS if is_for_all else LOCAL)


def place_of(text: str) -> Place:
    """Return the place that the words of `--on` name.

    Raises:
        MamlError: they name none.
    """
    kind, _, argument = text.strip().partition(":")
    is_known = kind in (LOCAL, GPUS, *CLUSTERS) and not (kind == LOCAL and argument)
    is_whole = {"tcp": argument.startswith("//"), GPUS: not argument or argument.isdecimal()}.get(kind, True)
    if not is_known or not is_whole:
        raise MamlError("--on", expected=FORMS, got=repr(text))
    return Place(kind, argument)


@contextmanager
def executor_at(
    wish: Wish,
    *,
    device: str,
    num_default: Callable[[], int],
    folder: Path,
    on_wait: OnWait = lambda words: None,
) -> Iterator[Executor]:
    """Yield what does jobs at a place; a cluster is probed before, and left with nothing at work.

    Args:
        wish: where, and how many at a time.
        device: what the recipe computes on.
        num_default: returns how many processes there are here where none are asked for.
        folder: of the study.
        on_wait: called with what a first worker of a cluster waits for.

    Raises:
        MamlError: there is no such place, it cannot be used, or a package for it is missing.
    """
    place = wish.place(device)
    if place.kind == LOCAL:
        yield local_executor(wish.jobs or num_default())
    elif place.kind == GPUS:
        yield gpus_executor(place.argument, device=device, per_gpu=wish.per_gpu or 1, jobs=wish.jobs)
    else:
        if is_lock_held(folder):  # before a cluster is asked for anything
            raise taken_error(folder)
        with _connected(place) as connection:
            probed = probe(connection, folder, on_wait)
            executor = _dask_executor(connection, probed, wish.jobs)
            try:
                yield executor
            finally:
                executor.end()


def _dask_executor(connection: Connection, probed: Probed, jobs: int | None) -> DaskExecutor:
    num_slots = connection.num_processes or probed.num_slots
    num_threads = connection.num_threads or probed.num_threads
    return DaskExecutor(connection, num_processes=min(num_slots, jobs or num_slots), num_threads=num_threads, most=jobs)


@contextmanager
def _connected(place: Place) -> Iterator[Connection]:
    """Yield a connection to a cluster; what Dask would print of its own is left out meanwhile."""
    missing = [name for name in _PACKAGES[place.kind] if find_spec(name) is None]
    if missing:
        raise MamlError(
            f"--on {place}",
            expected="the packages for clusters",
            got=f"no {' and no '.join(name.replace('_', '-') for name in missing)}",
            next_step="Run: pip install 'mamlcli[cluster]'",
        )
    import distributed

    with warnings.catch_warnings():
        # Versions that differ are told by the probe.
        warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)
        with _quiet("distributed", "asyncio", "tornado"), CLUSTERS[place.kind](place.argument) as connection:
            yield connection


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let loggers say nothing below what ends a process."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def look_at(on: str, folder: Path, on_wait: OnWait = lambda words: None) -> str:
    """Return in words what is at a place, as a study would find it that is written to a folder.

    Raises:
        MamlError: there is no such place, or a study could not run there.
    """
    place = place_of(on)
    if place.kind == LOCAL:
        return "processes of this machine"
    if place.kind == GPUS:
        executor = gpus_executor(place.argument, device="auto")
        return f"{executor.num_processes} of the GPUs {', '.join(gpus_here())} of this machine"
    with _connected(place) as connection:
        return f"{connection.words}: {words_of(probe(connection, folder, on_wait))}"
