"""Timing: turns, rounds and threads, by a clock that the tests set. No test here waits for a time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from mamlcli.bench.implementations import Implementation
from mamlcli.bench.timing import Runner, best_threads, measure_rounds, spread, threads_restored
from mamlcli.common.errors import Interrupted
from mamlcli.training.tuned import TimeSpread


class Clock:
    """A clock that stands still but for what a test adds."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("mamlcli.bench.timing.time", made)
    monkeypatch.setattr("mamlcli.bench.timing.gc", SimpleNamespace(collect=lambda: 0))
    return made


def runner_of(clock, name="x", *, seconds=1.0, calls=None):
    """Return a runner whose call takes some seconds of the clock: a number, or a function of its threads."""

    def compute():
        clock.now += seconds(runner.threads) if callable(seconds) else seconds
        (calls if calls is not None else []).append(name)
        return {}

    # `compute` asks the runner for its threads, so it has a name.
    runner = Runner(Implementation(name), compute, torch.device("cpu"), threads=1)
    return runner


def test_spread_is_median_and_extremes():
    assert spread([5.0, 1.0, 2.0]) == TimeSpread(median=2.0, min=1.0, max=5.0, repeats=3)


def test_seconds_are_of_one_call_of_several(clock):
    calls = []
    assert runner_of(clock, seconds=2.5, calls=calls).seconds(4) == 2.5
    assert len(calls) == 4


def test_short_calls_are_measured_together_after_one_that_does_not_count(clock):
    calls = []
    runner = runner_of(clock, seconds=0.25, calls=calls)
    runner.calls = 3
    runner.sample()
    assert runner.samples == [0.25]
    assert len(calls) == 4


def test_a_sample_takes_a_fifth_of_a_second_and_at_most_200_calls(clock):
    runners = [runner_of(clock, seconds=seconds) for seconds in (4.0, 0.0625, 2**-12)]
    measure_rounds(runners, repeats=1, budget_s=1.0)
    assert [runner.calls for runner in runners] == [1, 4, 200]


def test_runners_take_turns_and_every_second_round_is_reversed(clock):
    calls = []
    runners = [runner_of(clock, name, calls=calls) for name in "abc"]
    measure_rounds(runners, repeats=3, budget_s=0.0)
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc"  # the first are to find out how many calls fill a sample
    assert [len(runner.samples) for runner in runners] == [3, 3, 3]


@pytest.mark.parametrize(("budget_s", "expected"), [(0.0, 3), (7.5, 7), (1000.0, 15)])
def test_without_a_number_of_rounds_there_are_as_many_as_fit(clock, budget_s, expected):
    runner = runner_of(clock, seconds=1.0)
    measure_rounds([runner], repeats=None, budget_s=budget_s)
    assert len(runner.samples) == expected


@pytest.mark.parametrize("scale", [0.01, 10.0])
def test_best_threads_are_the_fastest_after_a_call_for_warmth(clock, scale):
    assert best_threads(runner_of(clock, seconds=lambda threads: scale * {1: 3, 2: 2, 4: 4}[threads]), [1, 2, 4]) == 2


def test_one_candidate_is_not_tried(clock):
    calls = []
    assert best_threads(runner_of(clock, calls=calls), [3]) == 3
    assert calls == []


def interrupted_with_threads(number):
    with threads_restored():
        torch.set_num_threads(number)
        raise KeyboardInterrupt


def test_threads_are_as_before_whatever_happens():
    with threads_restored() as before:
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before
    with pytest.raises(Interrupted, match="nothing was written"):
        interrupted_with_threads(before + 1)
    assert torch.get_num_threads() == before
