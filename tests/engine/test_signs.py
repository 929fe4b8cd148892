"""Signs of life of workers, given by threads of this process; processes that fall silent are in `cli/test_workers`."""

from __future__ import annotations

import socket
import time

import pytest

from mamlcli.common.errors import WorkerError
from mamlcli.common.processes.place import Place
from mamlcli.engine.signs import Invitation, Signs
from tests.helpers.processes import wait_for

HERE, LOST_AFTER_S = "/nowhere/rendezvous", 0.3


def place_of(rank, address=None):
    return Place(rank, 3, rank, 3, None if address else HERE, address)


@pytest.fixture
def started():
    """Start signs of life, which end with the test."""
    all_of_them = []

    def start(found):
        found.start()
        all_of_them.append(found)
        return found

    yield start
    for found in all_of_them:
        found.stop()


def lost_of(found):
    """Return what an error says of lost workers, or None."""
    try:
        found.check()
    except WorkerError as error:
        return str(error)
    return None


@pytest.mark.parametrize("address", [None, "127.0.0.1:29500", "localhost:29500"])
def test_worker_whose_signs_cease_is_named_and_the_others_are_not(started, address):
    first = started(Signs.leading(place_of(0, address), LOST_AFTER_S))
    second, third = (started(Signs.following(place_of(rank, address), first.invitation)) for rank in (1, 2))
    time.sleep(2 * LOST_AFTER_S)
    assert [lost_of(found) for found in (first, second, third)] == [None] * 3
    third.stop()
    wait_for(lambda: lost_of(first))
    assert lost_of(first).startswith(
        f"workers: expected an answer of all 3, got no sign of life of worker 2 on {socket.gethostname()} for 0.3 s "
    )
    assert lost_of(second) is None
    first.stop()
    wait_for(lambda: lost_of(second))
    assert lost_of(second).startswith("worker 1: expected an answer of worker 0, got no sign of life of worker 0 on ")


def test_worker_that_never_gave_a_sign_is_not_lost(started):
    """As where a network lets none through."""
    first = started(Signs.leading(place_of(0), 0.05))
    deaf = started(Signs.following(place_of(1), Invitation(first.invitation.port, "another", 0.05)))
    no_socket = started(Signs.following(place_of(2), Invitation(0, "", 0.05)))
    time.sleep(0.3)
    assert [lost_of(found) for found in (first, deaf, no_socket)] == [None] * 3
