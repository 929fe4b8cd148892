"""`--on tcp://HOST:PORT`: whatever Dask scheduler is there, with the workers that it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mamlcli.common.errors import MamlError
from mamlcli.common.words import first_line
from mamlcli.studies.where.connection import Connection

# How long a scheduler may take to answer.
_ANSWER_S = 15.0


@contextmanager
def connected(address: str) -> Iterator[Connection]:
    """Yield a connection to a scheduler, which stays as it is.

    Args:
        address: as in "//10.0.0.1:8786".

    Raises:
        MamlError: no scheduler answers there.
    """
    from distributed import Client

    url = f"tcp:{address}"
    try:
        client = Client(url, timeout=_ANSWER_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise MamlError(
            "--on",
            expected="the address of a Dask scheduler that answers",
            got=f"{url}: {first_line(error)}",
            next_step=f"Start one: dask scheduler; then workers: dask worker {url} --nthreads 1",
        ) from error
    with client:
        yield Connection(client, url)
