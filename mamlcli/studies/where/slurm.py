"""`--on slurm[:PROFILE]`: the workers are jobs of Slurm."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mamlcli.common.errors import MamlError
from mamlcli.common.files import cache_dir
from mamlcli.studies.where.connection import Connection
from mamlcli.studies.where.profiles import profile_named
from mamlcli.studies.where.slurm_queue import cancel, check_commands


@contextmanager
def connected(name: str) -> Iterator[Connection]:
    """Yield the Dask cluster of a profile; at the end no job of it is left.

    Args:
        name: of the profile in cluster.yaml; empty for the only one or the default.

    Raises:
        MamlError: there is no Slurm here, or no such profile.
    """
    from distributed import Client

    profile = profile_named(name or None)
    check_commands()
    from mamlcli.studies.where.slurm_cluster import SlurmWorkers, remove_keys

    jobs_name = f"mamlcli-{secrets.token_hex(4)}"
    folder, with_logs = _folder(jobs_name), False
    try:
        with SlurmWorkers(profile, jobs_name, folder) as cluster, Client(cluster, set_as_default=False) as client:
            yield Connection(
                client,
                f"slurm{f', profile {name}' if name else ''}: up to {profile.max_jobs} jobs",
                num_processes=profile.max_jobs,
                num_threads=profile.cpus,
                pending=cluster.pending,
                timeout_s=profile.wait * 60.0,
            )
    except MamlError:
        with_logs = True
        raise
    finally:
        cancel(jobs_name)
        remove_keys(folder)
        if not with_logs:
            shutil.rmtree(folder, ignore_errors=True)


def _folder(jobs_name: str) -> Path:
    """Return a new folder for the logs of jobs, which nobody else can read: the keys of the connection are there."""
    folder = cache_dir() / "slurm" / jobs_name
    folder.mkdir(parents=True)
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)
    return folder
