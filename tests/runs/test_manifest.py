"""What a run notes of itself: read as typed properties, kept as it is in the file."""

from __future__ import annotations

import re

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


@pytest.mark.parametrize("key", ["seed", "versions", "resumed_from", "network", "parts", "metrics"])
def test_null_is_the_same_as_missing(key):
    assert Manifest({key: None}).to_json() == {key: None}
    assert not getattr(Manifest({key: None}), "metrics_mark" if key == "metrics" else key)


WRONG = {
    "resumed_from: expected a list, got 'x'": {"resumed_from": "x"},
    "resumed_from[1]: expected a whole number from 0, got -1": {"resumed_from": [3, -1]},
    "versions: expected an object of keys and values, got [1]": {"versions": [1]},
    "versions.torch: expected a text, got 2": {"versions": {"torch": 2}},
    "num_parameters: expected a whole number from 0, got 'many'": {"num_parameters": "many"},
    "num_parameters: expected a whole number from 0, got True": {"num_parameters": True},
    "argv[0]: expected a text, got 1": {"argv": [1, 2]},
    "wall_s: expected a finite number, got nan": {"wall_s": float("nan")},
    "wall_s: expected a number from 0, got -1.0": {"wall_s": -1.0},
    "execution.workers: expected a whole number from 1 of at most 4,096, got 1000000": {
        "execution": {"workers": 10**6}
    },
    "network.input_shape: expected a list, got None": {"network": {}},
    "changes[0].key: expected a text, got []": {"changes": [{"key": []}]},
    "parts[0].git.is_dirty: expected true or false, got 'no'": {"parts": [{"git": {"is_dirty": "no"}}]},
    "metrics.sha256: expected a text, got None": {"metrics": {"bytes": 3}},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_a_key_cannot_mean_is_refused_with_the_key_and_the_value(message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        Manifest(WRONG[message])
