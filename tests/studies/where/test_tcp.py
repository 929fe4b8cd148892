"""A scheduler that is there already, or that is not."""

from __future__ import annotations

import socket
import traceback

import pytest

pytest.importorskip("distributed")
from distributed.utils import LoopRunner

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


def test_a_client_that_could_not_connect_is_closed_while_it_still_is_there():
    with pytest.raises(MamlError) as caught, connected("//nonsense", patience_s=0.3):
        pass
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(caught.value.__cause__.__traceback__)]
    [client] = {id(client): client for client in (names.get("client") for names in frames) if client}.values()
    assert client.status == "closed"


def test_a_client_whose_thread_does_not_start_is_told_in_words(monkeypatch):
    def starve(_):
        raise AssertionError

    monkeypatch.setattr(LoopRunner, "start", starve)
    with pytest.raises(MamlError, match="thread did not start within 10 seconds"), connected("//127.0.0.1:8786"):
        pass
