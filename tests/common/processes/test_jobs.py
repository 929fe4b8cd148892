"""Jobs: which outcomes of one are worth another attempt."""

from __future__ import annotations

from mamlcli.common.processes.jobs import Job, Outcome


def test_a_failure_has_hope_unless_its_error_comes_again_however_often():
    job = Job("a", print, None, hopeless=["NonFiniteError"])
    ends = [("done", ""), ("interrupted", ""), ("failed", "NonFiniteError"), ("failed", "died")]
    assert [job.has_hope(Outcome("a", status, error=error)) for status, error in ends] == [False, False, False, True]
