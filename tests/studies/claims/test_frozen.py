"""The resolved recipes in a plan: every scale comes back from JSON, and what has changed since is named."""

import json
from dataclasses import replace

import pytest

from mamlcli.common.errors import RunError
from mamlcli.common.processes.pool import LocalExecutor
from mamlcli.studies.claims import frozen
from mamlcli.studies.claims.frozen import BASE, changed_recipes, frozen_recipes
from mamlcli.studies.claims.looks import Extent, Machine, take_looks
from mamlcli.studies.claims.plan import Plan
from mamlcli.studies.claims.reproduction import sweep_of
from mamlcli.studies.claims.scales import SCALES
from tests.helpers.reproductions import LINREG, LOGISTIC, opened, tiny_plan


def frozen_plan(families=(LINREG, LOGISTIC)):
    plan = tiny_plan(families=families, registered_recipes=frozen_recipes(families, 100))
    return Plan.from_json(json.loads(json.dumps(plan.to_json())))


@pytest.mark.parametrize("name", SCALES)
def test_the_recipes_of_a_scale_come_back_from_json_unchanged(name):
    scale = SCALES[name]()
    families = (*scale.families, *(family for of in scale.optional.values() for family in of))
    assert changed_recipes(frozen_plan(families)) == []


def test_a_plan_of_before_recipes_were_registered_is_read_as_before():
    plan = tiny_plan()
    assert "registered_recipes" not in plan.to_json()
    assert changed_recipes(Plan.from_json(plan.to_json())) == []


def test_a_recipe_that_changed_since_is_named_with_both_values(monkeypatch):
    plan, now = frozen_plan(), frozen.sweep_of

    def shipped_otherwise(family, **how):
        more = ("outer.lr=0.5",) if family.key == "logistic" else ()
        return now(replace(family, changes=(*family.changes, *more)), **how)

    monkeypatch.setattr(frozen, "sweep_of", shipped_otherwise)
    (words,) = changed_recipes(plan)
    assert words.startswith("logistic regression: outer.lr (")
    assert words.endswith(" there, 0.5 here)")


def test_a_cell_of_one_value_that_resolves_otherwise_is_named(monkeypatch):
    plan, now = frozen_plan((LINREG,)), frozen.sweep_of

    def resolved_otherwise(family, **how):
        sweep = now(family, **how)
        one, two = sweep.values
        return replace(sweep, values=(one, replace(two, changes={**two.changes, "inner.steps": 3})))

    monkeypatch.setattr(frozen, "sweep_of", resolved_otherwise)
    assert changed_recipes(plan) == ["linear regression: inner.steps (1 there, 3 here) of depth 2"]


def test_keys_that_this_version_does_not_know_are_told_and_no_traceback():
    plan = frozen_plan((LINREG,))
    tree = {**plan.registered_recipes["linear-regression"][BASE], "later": 1}
    content = {"linear-regression": {**plan.registered_recipes["linear-regression"], BASE: tree}}
    (words,) = changed_recipes(replace(plan, registered_recipes=content))
    assert "cannot read its recipes" in words
    assert "later" in words


def test_nothing_is_run_under_a_plan_of_other_recipes_and_its_report_says_so(tmp_path, monkeypatch):
    plan = frozen_plan((LINREG,))
    monkeypatch.setattr(frozen, "sweep_of", with_other_rate)
    with pytest.raises(RunError, match=r"outer\.lr .* Go on with mamlcli 0, or begin a new plan"):
        take_looks(opened(plan), tmp_path, Extent(), Machine(LocalExecutor(1)))
    done = take_looks(opened(plan), tmp_path, Extent(reads_only=True), Machine(LocalExecutor(1)))
    assert done.deviations[0].startswith("this version has other recipes than the plan: linear regression: outer.lr")


def with_other_rate(family, **how):
    return sweep_of(replace(family, changes=(*family.changes, "outer.lr=0.5")), **how)
