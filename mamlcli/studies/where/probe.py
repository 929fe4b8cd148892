"""The probe looks at the workers of a cluster before a study runs there: versions, files, cores.

A worker that differs from the driver would fail every cell, or give other numbers; one that does not come would let the
study wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import mamlcli
from mamlcli.common.disk import write_error
from mamlcli.common.errors import MamlError
from mamlcli.common.machine import versions
from mamlcli.common.words import first_line
from mamlcli.studies.where.connection import Connection

# Versions that have to be the driver's: results depend on them, or what is sent could not be read.
_SAME = ("mamlcli", "torch", "numpy", "distributed")

# How often it is asked, while no worker is there, whether one will come.
_LOOK_S = 2.0

OnWait = Callable[[str], None]

_OTHER_DIR = "Name a --dir on a disk that all machines share"


class Seen(TypedDict):
    """What a worker says of itself."""

    host: str
    gpus: str
    cores: int
    versions: dict[str, str]
    token: str


@dataclass(frozen=True)
class Probed:
    """Says what the workers of a cluster are.

    Attributes:
        num_workers: that were there.
        num_slots: jobs that they take at a time.
        num_threads: cores that a job has, on the worker that has fewest.
        places: host and GPUs of each, in words.
    """

    num_workers: int
    num_slots: int
    num_threads: int
    places: tuple[str, ...]


def probe(connection: Connection, folder: Path, on_wait: OnWait = lambda words: None) -> Probed:
    """Wait for a worker, look at those that are there, and return what they are.

    Args:
        connection: to the cluster.
        folder: that workers have to see, too: the study's, or the one where it will be.
        on_wait: called with what a first worker waits for, each time that it is something else.

    Raises:
        MamlError: no worker comes in time, one has other versions, or one does not see the folder.
    """
    _wait_for_first(connection, on_wait)
    _check_python(connection)
    client = connection.client
    with _token_in(folder) as (file, token):
        try:
            seen: Mapping[str, Seen] = client.run(_look(), str(file))
        except Exception as error:
            raise _unlike(
                connection,
                "workers that have mamlcli and its packages",
                first_line(error),
                "Start the workers with the Python of this installation: " + sys.executable,
            ) from error
    for worker in seen.values():
        _check_versions(connection, worker)
        if worker["token"] != token:
            raise _unlike(
                connection,
                f"workers that see {folder.absolute()}",
                f"one on {worker['host']} that sees another file system",
                _OTHER_DIR,
            )
    slots = {address: num for address, num in client.nthreads().items() if address in seen}
    on_host: dict[str, int] = {}
    for address, num in slots.items():
        on_host[seen[address]["host"]] = on_host.get(seen[address]["host"], 0) + num
    threads = [max(1, worker["cores"] // max(1, on_host.get(worker["host"], 1))) for worker in seen.values()]
    places = (worker["host"] + (f" GPU {worker['gpus']}" if worker["gpus"] else "") for worker in seen.values())
    return Probed(len(seen), sum(slots.values()), min(threads), tuple(sorted(places)))


def _wait_for_first(connection: Connection, on_wait: OnWait) -> None:
    told = ""
    deadline = time.monotonic() + connection.timeout_s
    while True:
        pending = connection.pending()
        if pending and pending != told:
            told = pending
            on_wait(pending)
        with contextlib.suppress(TimeoutError):
            connection.client.wait_for_workers(1, timeout=min(_LOOK_S, connection.timeout_s))
            return
        if time.monotonic() >= deadline:
            raise MamlError(
                f"--on {connection.words}",
                expected=f"a worker within {connection.timeout_s:g} s",
                got="none" + (f": {pending}" if pending else ""),
                next_step="Start one, or wait for the cluster and run the same command again",
            )


def _check_python(connection: Connection) -> None:
    """Compare what Dask itself can tell before any of our functions, which other Pythons may not be able to read."""
    told = connection.client.get_versions(check=False)
    for part in (told["scheduler"], *told["workers"].values()):
        there = ".".join(str(part["host"]["python"]).split(".")[:2])
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if there != here:
            raise _unlike(connection, f"Python {here}, as here", f"Python {there}", _same_packages())


def _look() -> Callable[[str], Seen]:
    # A function within one is sent as it is here; the worker need not have this file.
    def look(file: str) -> Seen:
        names = ("torch", "numpy", "distributed")
        found = {name: metadata.version(name) for name in names} | {"mamlcli": mamlcli.__version__}
        path = Path(file)
        has_affinity = hasattr(os, "sched_getaffinity")
        return {
            "host": platform.node(),
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1,
            "versions": found,
            "token": path.read_text(encoding="utf-8") if path.is_file() else "",
        }

    return look


def _check_versions(connection: Connection, worker: Seen) -> None:
    here = versions() | {"distributed": metadata.version("distributed")}
    others = [name for name in _SAME if worker["versions"][name] != here[name]]
    if others:
        raise _unlike(
            connection,
            ", ".join(f"{name} {here[name]}" for name in others) + ", as here",
            ", ".join(f"{name} {worker['versions'][name]}" for name in others) + f" on {worker['host']}",
            _same_packages(),
        )


def _same_packages() -> str:
    return f"Start scheduler and workers with the Python of this installation: {sys.executable}"


def _unlike(connection: Connection, expected: str, got: str, next_step: str) -> MamlError:
    return MamlError(f"--on {connection.words}", expected=expected, got=got, next_step=next_step)


@contextmanager
def _token_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """Write a file that no one can have by chance, in a folder or the nearest one above it that is there."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    token = uuid.uuid4().hex
    file = there / f".mamlcli-probe-{token}"
    try:
        file.write_text(token, encoding="utf-8")
    except OSError as error:
        raise write_error(error, str(there), expected="a folder that can be written", next_step=_OTHER_DIR) from error
    try:
        yield file, token
    finally:
        file.unlink(missing_ok=True)


def words_of(probed: Probed) -> str:
    """Return what a probe found, in one line."""
    workers = f"{probed.num_workers} worker{'s' if probed.num_workers != 1 else ''}"
    return f"{workers} on {', '.join(dict.fromkeys(probed.places))}; {probed.num_slots} at a time"
