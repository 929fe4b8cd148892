"""What a reproduction would cost."""

from dataclasses import replace

from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims import costs
from mamlcli.studies.claims.costs import RATES_OF_PILOTS, cost_of
from mamlcli.training.dry_run import dry_run
from tests.helpers.reproductions import LINREG, PACKED, tiny_plan


def ten_seconds(monkeypatch):
    measured = []
    monkeypatch.setattr(costs, "_seconds", lambda cell: measured.append(cell) or 10.0)
    return measured


def test_each_value_is_measured_once_for_the_runs_of_the_first_look(tmp_path, monkeypatch):
    measured = ten_seconds(monkeypatch)
    cost = cost_of(tiny_plan(families=(LINREG, PACKED)), tmp_path, num_processes=2)
    assert [cell.value.label for cell in measured] == ["depth 1", "depth 2"]
    assert cost.to_json() == {"num_runs": 4, "num_done": 0, "num_pilots": 0, "total_s": 4 * 10 / 2}


def test_runs_that_are_done_cost_nothing(tmp_path, monkeypatch):
    ten_seconds(monkeypatch)
    folder = tmp_path / "linear-regression" / "cells"
    folder.mkdir(parents=True)
    run = RunDirectory.create(folder / "depth-1-seed-101", load_recipe("linear-regression", ["seed=101"])[1], "x")
    plan = tiny_plan(families=(LINREG,))
    assert cost_of(plan, tmp_path, num_processes=1).num_done == 0  # made, but not scored
    (run.path / "evaluation.json").write_text("{}")
    cost = cost_of(plan, tmp_path, num_processes=1)
    assert (cost.num_runs, cost.num_done, cost.total_s) == (4, 1, 30.0)


def test_pilots_are_counted_for_values_without_a_rate(tmp_path, monkeypatch):
    ten_seconds(monkeypatch)
    plan = tiny_plan(families=(replace(LINREG, rates={"depth 1": 0.1}),))
    cost = cost_of(plan, tmp_path, num_processes=1)
    assert cost.num_pilots == 2 * RATES_OF_PILOTS
    assert cost.total_s == 10.0 * (4 + 2 * RATES_OF_PILOTS)


def test_a_cost_is_that_of_training_and_scoring(tmp_path, monkeypatch):
    one = dry_run(load_recipe("linear-regression", [*LINREG.changes])[1])
    monkeypatch.setattr(costs, "dry_run", lambda recipe: one)
    cost = cost_of(tiny_plan(families=(LINREG,)), tmp_path, num_processes=1)
    assert cost.total_s == 4 * (one.training_s + one.evaluation_s)
