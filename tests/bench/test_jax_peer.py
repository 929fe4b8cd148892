"""The peer in JAX where JAX is not: it is named with what to install. What it computes: tests/extras/test_jax.py."""

import dataclasses
import sys

from mamlcli.bench.implementations import implementations
from mamlcli.bench.peers import JAX, absent_peers
from tests.helpers.benches import CONV


def test_without_jax_it_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)  # what `import jax` finds to be absent
    assert absent_peers()[JAX] == "jax is not installed: pip install 'mamlcli[bench-jax]'"
    measured, _ = implementations(CONV, device="cpu")
    assert JAX not in [implementation.name for implementation in measured]


def test_where_it_would_compile_for_minutes_it_is_left_out_with_a_line(monkeypatch):
    for module in ("implementations", "benchmark"):
        monkeypatch.setattr(f"mamlcli.bench.{module}.absent_peers", dict)
    measured, _ = implementations(CONV, device="cpu")
    assert JAX in [implementation.name for implementation in measured]
    measured, left_out = implementations(dataclasses.replace(CONV, memory_modes=True), device="cpu")
    assert JAX not in [implementation.name for implementation in measured]
    assert [line for line in left_out if line.startswith("conv: jax is left out: compiling")]
