"""What a run would cost, measured before it is made."""

from __future__ import annotations

import pytest

from mamlcli.recipe.files import load_recipe
from mamlcli.training.dry_run import dry_run
from tests.helpers.running import (
    TINY,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_dry_run_tells_the_cost_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cost = dry_run(load_recipe("linear-regression", (*TINY, "inner.transform=kfo"))[1])
    assert cost.num_parameters == 10
    assert cost.num_transform_parameters > 0
    assert cost.seconds_per_iteration > 0
    assert cost.training_s == pytest.approx(2 * cost.seconds_per_iteration)
    assert cost.execution.threads == 1
    assert list(tmp_path.iterdir()) == []


def test_cost_of_a_multi_step_loss_is_for_as_long_as_it_lasts(monkeypatch):
    # Four of ten iterations take 3 s each, the others 1 s.
    seen = []

    def timed(function, device):
        function()
        return seen[-1]

    def functions(experiments, how):
        return (lambda indices, metas, iteration: seen.append(3.0 if iteration < 4 else 1.0)), None

    monkeypatch.setattr("mamlcli.training.dry_run._timed", timed)
    monkeypatch.setattr("mamlcli.training.dry_run.training_functions", functions)
    keys = (*TINY, "outer.iterations=10", "outer.multi_step_loss=4", "evaluation.tasks=2")
    cost = dry_run(load_recipe("linear-regression", keys)[1])
    assert cost.seconds_per_iteration == pytest.approx((4 * 3 + 6 * 1) / 10)
