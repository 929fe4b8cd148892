"""Findings: which are broken, and their JSON form."""

from __future__ import annotations

from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK, Finding, broken, diagnosis_to_json


def test_exit_code_counts_what_is_broken_alone():
    lacking, bad = (Finding("data", "x", status, "") for status in (LACKING, BROKEN))
    assert broken([lacking]) == []
    assert broken([lacking, bad]) == [bad]


def test_a_diagnosis_is_well_as_json_where_nothing_is_broken():
    well = Finding("data", "x", OK, "here", details={"bytes": 1})
    assert diagnosis_to_json([well, Finding("data", "y", LACKING, "no")])["ok"] is True
    content = diagnosis_to_json([well, Finding("data", "z", BROKEN, "no", "effect", "remedy")])
    assert content["ok"] is False
    assert content["findings"][0] == {
        "group": "data",
        "name": "x",
        "status": "ok",
        "found": "here",
        "effect": None,
        "remedy": None,
        "details": {"bytes": 1},
    }
