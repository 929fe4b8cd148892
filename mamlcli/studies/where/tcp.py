"""`--on tcp://HOST:PORT`: whatever Dask scheduler is there, with the workers that it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mamlcli.common.errors import MamlError
from mamlcli.common.words import first_line
from mamlcli.studies.where.connection import Connection


@contextmanager
def connected(address: str, *, patience_s: float = 15.0) -> Iterator[Connection]:
    """Yield a connection to a scheduler, which stays as it is.

    Args:
        address: as in "//10.0.0.1:8786".
        patience_s: seconds that the scheduler may take to answer.

    Raises:
        MamlError: no scheduler answers there.
    """
    from distributed import Client

    url = f"tcp:{address}"
    client = Client.__new__(Client)
    try:
        client.__init__(url, timeout=patience_s, set_as_default=False)
    except (OSError, ValueError, AssertionError) as error:
        # The client of an address that is none closes itself when it is collected as garbage, and waits for ever where
        # that happens while the next one starts its thread. One that found no scheduler has closed itself already.
        client.close()
        raise MamlError(
            "--on",
            expected="the address of a Dask scheduler that answers",
            got=f"{url}: {first_line(error) if str(error) else _NO_THREAD}",
            next_step=f"Start one: dask scheduler; then workers: dask worker {url} --nthreads 1",
        ) from error
    with client:
        yield Connection(client, url)


# What Dask's assertion without a word means.
_NO_THREAD = "the connection's thread did not start within 10 seconds; the machine may be busy"
