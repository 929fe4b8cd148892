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
