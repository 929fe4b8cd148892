"""What tests of the bench share: one thread, and no waiting."""

from __future__ import annotations

import pytest

from tests.helpers.benches import make_bench_quick


@pytest.fixture(autouse=True)
def threads(one_thread):
    """The tensors here are small."""


@pytest.fixture
def quick(monkeypatch):
    make_bench_quick(monkeypatch)


@pytest.fixture
def no_peers(monkeypatch):
    """Leave out the peers that are libraries."""
    for module in ("implementations", "benchmark"):
        monkeypatch.setattr(
            f"mamlcli.bench.{module}.absent_peers",
            lambda: {"higher": "higher is gone", "TorchOpt": "so is TorchOpt", "jax": "and jax"},
        )
