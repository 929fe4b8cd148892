"""The place of a process among the workers of a run, as its environment gives it."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.launch import RENDEZVOUS
from mamlcli.common.processes.place import Place, place_in

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_process_without_torchruns_variables_is_alone():
    assert place_in({}) is None
    assert place_in({"RANK": ""}) is None


def test_place_is_read_from_torchruns_variables():
    assert place_in(TORCHRUN) == Place(1, 4, 1, 2)
    assert place_in(TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}) == Place(1, 4, 1, 4)


@pytest.mark.parametrize("name", TORCHRUN)
def test_torchruns_variables_half_set_are_refused(name):
    with pytest.raises(MamlError, match=f"without {name}. Start with torchrun -m mamlcli train"):
        place_in({key: value for key, value in TORCHRUN.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", "4"),
        ("RANK", "-1"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "two"),
        ("LOCAL_RANK", "2"),
        ("MASTER_PORT", "70000"),
    ],
)
def test_variable_that_makes_no_sense_is_named(name, value):
    with pytest.raises(MamlError, match=f"environment: {name}: expected an integer"):
        place_in(TORCHRUN | {name: value})


def test_place_of_workers_started_here_has_their_meeting_point():
    environment = {RENDEZVOUS: "/tmp/there", "RANK": "2", "WORLD_SIZE": "3"}
    assert place_in(environment) == Place(2, 3, 2, 3, "/tmp/there")
