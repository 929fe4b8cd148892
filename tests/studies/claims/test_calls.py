"""Calls of a reproduction: how long each took, on how much."""

import json

import pytest

from mamlcli.common.errors import Interrupted
from mamlcli.studies.claims.calls import CALLS_FILE, Call, CallClock, elapsed_words, read_calls


def test_a_call_is_noted_if_it_ran_something(tmp_path):
    with CallClock(tmp_path, 2) as clock:
        clock.count("skipped")
    assert read_calls(tmp_path) == ()
    with CallClock(tmp_path, 2) as clock:
        clock.count("done")
    [call] = read_calls(tmp_path)
    assert call.num_processes == 2
    assert 0 <= call.elapsed_s < 60
    assert call.num_cores >= 1


def test_a_call_that_was_cut_is_noted_before_the_next(tmp_path):
    def cut():
        with CallClock(tmp_path, 1) as clock:
            clock.count("interrupted")
            raise Interrupted("cut")

    with pytest.raises(Interrupted):
        cut()
    with CallClock(tmp_path, 4) as clock:
        clock.count("failed")
    assert [call.num_processes for call in read_calls(tmp_path)] == [1, 4]


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps([{"began": "now"}])])
def test_a_file_that_cannot_be_read_is_as_none(tmp_path, text):
    (tmp_path / CALLS_FILE).write_text(text)
    assert read_calls(tmp_path) == ()


def test_elapsed_time_in_words():
    first = Call("2026-01-01T00:00:00+00:00", 600.0, 2, 2)
    assert elapsed_words([first]) == "It took 10 min by the clock with 2 processes at a time on 2 cores."
    both = elapsed_words([first, Call("2026-01-02T00:00:00+00:00", 600.0, 1, 2)])
    assert both == "It took 20 min by the clock, in 2 calls, with 2 processes or 1 process at a time on 2 cores."
    assert "not noted" in elapsed_words([])
