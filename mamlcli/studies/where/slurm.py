"""`--on slurm[:PROFILE]`: the workers are jobs of Slurm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mamlcli.common.errors import MamlError
from mamlcli.studies.where.connection import Connection


@contextmanager
def connected(profile: str) -> Iterator[Connection]:
    """Yield the Dask cluster of a profile; at the end no job of it is left.

    Args:
        profile: its name in cluster.yaml; empty for the only one or the default.
    """
    raise MamlError("--on", expected="local, gpus[:N] or tcp://HOST:PORT", got=f"slurm:{profile}")
    yield
