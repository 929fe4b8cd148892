"""What a run notes of itself: read as typed properties, kept as it is in the file."""

from __future__ import annotations

import pytest

from mamlcli.runs.manifest import Manifest

CONTENT = {
    "recipe_name": "logistic",
    "status": "stopped early",
    "started_at": "2026-01-02T03:04:05+00:00",
    "resumed_from": [3, 9],
    "seed": 7,
    "num_parameters": 12,
    "device": "a processor",
    "execution": {"threads": 2, "workers": 3},
    "data": {"digest": "abc"},
    "versions": {"torch": "2"},
    "wall_s": 1.5,
    "of_a_later_version": {"a": [1]},
}


def test_properties_are_the_keys_of_the_file():
    manifest = Manifest(CONTENT)
    assert (manifest.recipe_name, manifest.status, manifest.seed) == ("logistic", "stopped early", 7)
    assert (manifest.resumed_from, manifest.wall_s, manifest.num_parameters) == ([3, 9], 1.5, 12)
    assert (manifest.num_workers, manifest.data_digest, manifest.versions["torch"]) == (3, "abc", "2")


def test_keys_of_other_versions_are_kept():
    assert Manifest(CONTENT).to_json() == CONTENT
    assert Manifest(CONTENT)["of_a_later_version"] == {"a": [1]}


def test_a_key_that_is_missing_is_none_or_empty():
    manifest = Manifest({})
    assert (manifest.recipe_name, manifest.reason, manifest.seed, manifest.wall_s) == (None, None, None, None)
    assert (manifest.resumed_from, manifest.argv, manifest.data, manifest.git) == ([], [], {}, {})
    assert (manifest.status, manifest.num_workers) == ("created", 1)


@pytest.mark.parametrize("wrong", [None, "text", 3.5, [], {}])
def test_a_value_of_another_kind_is_taken_for_missing(wrong):
    manifest = Manifest(dict.fromkeys(("seed", "num_parameters", "iterations_done"), wrong))
    assert (manifest.seed, manifest.num_parameters, manifest.iterations_done) == (None, None, None)


def test_parts_of_another_kind_are_empty():
    manifest = Manifest({"data": None, "versions": "2", "resumed_from": {}, "wall_s": float("nan")})
    assert (manifest.data, manifest.data_digest, manifest.versions) == ({}, None, {})
    assert (manifest.resumed_from, manifest.wall_s) == ([], None)
