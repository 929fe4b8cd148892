"""What each part of a run was computed with stays known when it goes on."""

from __future__ import annotations

from mamlcli.runs.manifest import Manifest
from mamlcli.runs.parts import new_part, part_words, parts_with, values_over_parts

OLD = {"device": "cuda:0 (NVIDIA H100)", "versions": {"torch": "1.0.0"}, "git": {"commit": "f" * 40, "is_dirty": True}}
NEW = {"device": "cpu (2 cores)", "versions": {"torch": "2.9"}, "git": None, "data": {"digest": "abc", "skipped": [1]}}


def begun(iteration, notes):
    return new_part(iteration, "2026-01-02T03:04:05+00:00", notes)


def test_the_part_of_a_run_that_an_earlier_version_began_is_kept():
    parts = parts_with(Manifest({**OLD, "started_at": "then"}), begun(10, NEW))
    assert [part["iteration"] for part in parts] == [0, 10]
    assert (parts[0]["device"], parts[0]["versions"], parts[0]["started_at"]) == (
        OLD["device"],
        OLD["versions"],
        "then",
    )
    assert parts[1]["data"] == {"digest": "abc"}


def test_a_part_that_saved_nothing_is_left_out():
    manifest = Manifest({"parts": [begun(0, OLD), begun(10, NEW), begun(15, OLD)]})
    assert [part["iteration"] for part in parts_with(manifest, begun(10, OLD))] == [0, 10]
    assert [part["iteration"] for part in parts_with(manifest, begun(20, OLD))] == [0, 10, 15, 20]
    assert parts_with(Manifest({}), begun(0, NEW)) == [begun(0, NEW)]


def test_parts_are_told_with_the_iterations_that_each_has_done():
    first, second = part_words(Manifest({"parts": [begun(0, OLD), begun(10, NEW)]}), 20)
    assert first.startswith("iterations 1 to 10: 2026-01-02T03:04:05+00:00; cuda:0 (NVIDIA H100); torch 1.0.0; git fff")
    assert first.endswith("f, with changes")
    assert second == "iterations 11 to 20: 2026-01-02T03:04:05+00:00; cpu (2 cores); torch 2.9; data abc"


def test_a_run_of_one_part_says_nothing_of_parts():
    assert part_words(Manifest({"parts": [begun(0, OLD)]}), 20) == []
    assert part_words(Manifest(OLD), 20) == []


def test_values_of_all_parts_are_compared():
    manifest = Manifest({"parts": [begun(0, OLD), begun(10, NEW), begun(20, NEW)]})
    assert values_over_parts(manifest, "versions", "torch") == "1.0.0, then 2.9"
    assert values_over_parts(Manifest(OLD), "versions", "torch") == "1.0.0"
    assert values_over_parts(Manifest({}), "device") is None
