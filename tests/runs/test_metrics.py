"""The records of metrics.jsonl: whole lines, and which of them a resumed run writes again."""

from __future__ import annotations

import pytest

from mamlcli.runs.metrics import is_kept, last_record_in, metrics_line, records_in


def records(*iterations, kind="step"):
    return [{"kind": kind, "iteration": iteration} for iteration in iterations]


def content(found):
    return "".join(map(metrics_line, found)).encode()


CUT = [b'{"kind": "st', b'{"kind": "step", "iteration": 4', b"{", b"3", b"\xff", b'{"kind": "step"}']


def test_a_record_is_one_line_of_json():
    assert metrics_line({"kind": "step", "iteration": 1}) == '{"kind": "step", "iteration": 1}\n'


@pytest.mark.parametrize("cut", CUT)
def test_lines_that_hold_no_record_are_left_out(cut):
    assert records_in(content(records(1, 2)) + cut) == records(1, 2)
    assert records_in(cut + b"\n" + content(records(1, 2))) == records(1, 2)


@pytest.mark.parametrize("cut", CUT)
def test_the_last_record_is_the_last_whole_one(cut):
    assert last_record_in(content(records(1, 2)) + cut) == records(2)[0]
    assert last_record_in(cut) == {}


ALL = [*records(1, 2), *records(2, kind="validation"), *records(3, 4), *records(4, kind="validation")]


def kept(found, **checkpoint):
    return [record for record in found if is_kept(record, **checkpoint)]


def test_records_after_the_checkpoint_are_written_again():
    assert kept(ALL, iteration=3, last_validated=2) == ALL[:4]


def test_a_step_stays_whose_validation_is_still_due():
    assert kept(ALL[:3], iteration=2, last_validated=0) == records(1, 2)


def test_a_run_from_its_start_writes_every_record_again():
    assert kept(ALL, iteration=0, last_validated=0) == []
