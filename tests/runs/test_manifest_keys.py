"""Every key of a manifest has its kind; those of the models that ship are of theirs."""

from __future__ import annotations

import json

import pytest

from mamlcli.runs.manifest import Manifest
from mamlcli.runs.manifest_keys import CHECKS
from mamlcli.runs.models import shipped_models


@pytest.mark.parametrize("name", shipped_models())
def test_manifests_of_shipped_models_are_read(name):
    content = json.loads((shipped_models()[name] / "manifest.json").read_text())
    assert Manifest(content).to_json() == content


@pytest.mark.parametrize("key", CHECKS)
def test_every_key_refuses_a_value_of_another_kind(key):
    with pytest.raises(ValueError, match=rf"^{key}: expected "):
        CHECKS[key](True, key)


def test_every_key_that_a_run_writes_has_a_kind(trained):
    content = json.loads((trained / "one" / "manifest.json").read_text())
    assert set(content) <= set(CHECKS)
