"""Recipes in files of a test's own folder."""

from __future__ import annotations

import pytest

from tests.helpers.recipes import SMALL


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write `r.yaml` in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def writing(content):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "r.yaml").write_bytes(data)
        return "r.yaml"

    return writing


@pytest.fixture
def small(write):
    return write(SMALL)
