"""What trackers are told of the past of a run."""

from __future__ import annotations

from mamlcli.training.trackers.interface import Tracker, values_of
from tests.helpers.trackers import tracked

RECORDS = (
    {"kind": "step", "iteration": 1, "outer_loss": 0.5, "accuracy": None, "elapsed_s": 3.0},
    {"kind": "validation", "iteration": 1, "loss": 0.25, "is_best": True},
    {"kind": "stop", "iteration": 1},
)


def test_past_is_what_was_recorded_when_the_run_began_and_nothing_that_came_later(tmp_path):
    run = tracked(tmp_path, records=RECORDS)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "iteration": 2, "outer_loss": 1.0}\n')
    assert list(run.past()) == [("step", 1, {"outer_loss": 0.5}), ("validation", 1, {"loss": 0.25})]


def test_run_that_begins_has_no_past(tmp_path):
    run = tracked(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    assert list(run.past()) == []


def test_values_are_numbers_without_truths_and_times():
    assert values_of({**RECORDS[0], "is_best": True, "name": "x"}) == {"outer_loss": 0.5}


def test_tracker_may_leave_out_what_it_does_not_need(tmp_path):
    tracker = Tracker()
    tracker.begin(tracked(tmp_path))
    tracker.record(1, {})
    tracker.validation(1, {})
    tracker.scores([])
    tracker.figure("curve", tmp_path)
    tracker.end("done")
    assert [path.name for path in tmp_path.iterdir()] != []
