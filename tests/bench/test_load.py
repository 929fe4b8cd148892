"""The load while a bench ran: what others used, from the system's counters."""

from __future__ import annotations

import os

import pytest

from mamlcli.bench import load
from mamlcli.bench.load import Load, LoadWatch


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose counters a test sets, in seconds: (user, system, idle of all cores, own)."""
    stat, own = tmp_path / "stat", [0.0]
    per_s = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(load.time, "process_time", lambda: own[0])
    monkeypatch.setattr(load.os, "times", lambda: (0.0, 0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(load.os, "getloadavg", lambda: (0.512, 0.4, 0.3))

    def at(user, system, idle, own_s):
        own[0] = own_s
        stat.write_text(f"cpu  {user * per_s} 0 {system * per_s} {idle * per_s} 0 0 0 0 0 0\ncpu0 1 2 3\n")
        return stat

    return at


def test_what_others_used_is_what_was_busy_and_not_ours(machine):
    watch = LoadWatch(machine(100, 10, 1000, 5.0))
    machine(130, 20, 1060, 35.0)  # 100 seconds of cores, 40 of them busy, 30 of these ours
    assert watch.load() == Load([0.51, 0.4, 0.3], [0.51, 0.4, 0.3], 0.1)


def test_a_system_that_does_not_tell_is_said_so(tmp_path, monkeypatch):
    def refused():
        raise OSError

    monkeypatch.setattr(load.os, "getloadavg", refused)
    assert LoadWatch(tmp_path / "nowhere").load() == Load(None, None, None)
