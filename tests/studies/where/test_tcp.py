"""A scheduler that is there already, or that is not."""

from __future__ import annotations

import socket

import pytest

pytest.importorskip("distributed")
from mamlcli.common.errors import MamlError
from mamlcli.studies.where.tcp import connected


def test_an_address_where_no_scheduler_answers_is_named_with_how_to_start_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = rf"a Dask scheduler that answers, got tcp://{address}.*dask scheduler"
    with pytest.raises(MamlError, match=words), connected(f"//{address}", patience_s=0.3):
        pass


@pytest.mark.parametrize("address", ["//nonsense", "//127.0.0.1:port"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(MamlError, match="the address of a Dask scheduler"), connected(address, patience_s=0.3):
        pass
