"""What a reproduction would cost."""

from dataclasses import replace

import pytest

from mamlcli.common.machine import num_cores
from mamlcli.common.processes.pool import LocalExecutor
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims import costs
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.costs import END_S, RATES_OF_PILOTS, REPORT_S, START_S, cost_of, measured
from mamlcli.studies.claims.decisions import one_look
from mamlcli.studies.claims.plan import Amounts
from mamlcli.studies.where.local import local_executor
from mamlcli.training.dry_run import RunCost, dry_run
from tests.helpers.reproductions import LINREG, PACKED, tiny_plan


def ten_seconds(monkeypatch):
    """Every run takes 8 s of training, 4 ms an iteration, and 2 s of evaluation; nothing else takes time."""
    found = []

    def measured(recipes, executor):
        found.extend(recipes)
        return [RunCost("cpu", 1, 0, 0.004, 8.0, 2.0, None, None) for _ in recipes]

    monkeypatch.setattr(costs, "measured", measured)
    for name in ("START_S", "END_S", "REPORT_S"):
        monkeypatch.setattr(costs, name, 0.0)
    return found


def test_each_value_is_measured_once_for_the_runs_of_the_first_look(tmp_path, monkeypatch):
    measured = ten_seconds(monkeypatch)
    cost = cost_of(tiny_plan(families=(LINREG, PACKED)), tmp_path, executor=LocalExecutor(2))
    assert [recipe.model.depth for recipe in measured] == [1, 2]
    assert cost.to_json() == {"num_runs": 4, "num_done": 0, "num_pilots": 0, "total_s": 4 * 10 / 2}


def test_runs_that_are_done_cost_nothing(tmp_path, monkeypatch):
    ten_seconds(monkeypatch)
    folder = tmp_path / "linear-regression" / "cells"
    folder.mkdir(parents=True)
    run = RunDirectory.create(folder / "depth-1-seed-101", load_recipe("linear-regression", ["seed=101"])[1], "x")
    plan = tiny_plan(families=(LINREG,))
    assert cost_of(plan, tmp_path, executor=LocalExecutor(1)).num_done == 0  # made, but not scored
    (run.path / "evaluation.json").write_text("{}")
    cost = cost_of(plan, tmp_path, executor=LocalExecutor(1))
    assert (cost.num_runs, cost.num_done, cost.total_s) == (4, 1, 30.0)


def test_pilots_are_counted_for_values_without_a_rate(tmp_path, monkeypatch):
    ten_seconds(monkeypatch)
    plan = tiny_plan(families=(replace(LINREG, rates={"depth 1": 0.1}),))
    cost = cost_of(plan, tmp_path, executor=LocalExecutor(1))
    assert cost.num_pilots == 2 * RATES_OF_PILOTS
    assert cost.total_s == 10.0 * (4 + 2 * RATES_OF_PILOTS)


def test_a_cost_is_that_of_training_scoring_starts_ends_and_the_report(tmp_path, monkeypatch):
    one = dry_run(load_recipe("linear-regression", [*LINREG.changes])[1])
    monkeypatch.setattr(costs, "dry_run", lambda recipe, **how: one)
    cost = cost_of(tiny_plan(families=(LINREG,)), tmp_path, executor=LocalExecutor(1))
    runs = 4 * (one.training_s + one.evaluation_s + END_S)
    assert cost.total_s == pytest.approx(runs + START_S + REPORT_S)


def test_runs_are_measured_at_once_in_as_many_processes_with_the_threads_that_they_will_have():
    recipe = load_recipe("linear-regression", [*LINREG.changes])[1]
    costs_of_two = measured([recipe, recipe], local_executor(num_cores()))
    assert [cost.execution.threads for cost in costs_of_two] == [1, 1]
    assert all(cost.training_s > 0 for cost in costs_of_two)


def test_controls_of_layers_and_the_premise_are_in_the_estimate(tmp_path, monkeypatch):
    ten_seconds(monkeypatch)
    family = replace(
        LINREG,
        key="glyphs-maml",
        role="maml",
        recipe="glyphs-5way-1shot",
        changes=("outer.tasks=4", "evaluation.tasks=100", "tasks.queries=5", "inner.steps=2"),
        values=(CellValue(1), CellValue(2), CellValue(1, 2)),
        rates={"depth 1": 0.4, "depth 2": 0.4, "depth 1, 2 linear layers": 0.4},
    )
    amounts = Amounts(premise_tasks=3, premise_steps=200, control_tasks=50)
    plan = tiny_plan(families=(family,), looks_of_plan=one_look(2), registered_amounts=amounts)
    runs = 3 * 2 * 10.0
    # 8 rates on 50 tasks, then 100 tasks, at 2 s for 100; two seeds.
    controls = 2 * (8 * 50 / 100 + 1) * 2.0
    # 1 ms for a task: 2 steps of 3 gradients on 1 example of each class, and 5 queries; then 15 examples.
    # The deeper one takes 0.3 of the steps.
    premise = 1.3 * 3 * 200 * 15 * 0.001 / (2 * 3 * 1 + 5)
    assert cost_of(plan, tmp_path, executor=LocalExecutor(1)).total_s == pytest.approx(runs + controls + premise)
    (tmp_path / "glyphs-maml").mkdir()
    (tmp_path / "glyphs-maml" / "premise.json").write_text("[]")
    assert cost_of(plan, tmp_path, executor=LocalExecutor(2)).total_s == pytest.approx((runs + controls) / 2)
