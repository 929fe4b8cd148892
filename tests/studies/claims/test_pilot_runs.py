"""The run directory of one pilot."""

import math

import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.pilot_runs import DIVERGED, check_pilot, pilot_loss, pilot_report

RECIPE = load_recipe("linear-regression")[1]


def test_a_pilot_of_another_recipe_is_refused_with_what_differs_wherever_it_computed(tmp_path):
    folder = tmp_path / "pilot"
    check_pilot(folder, RECIPE)  # there is none
    RunDirectory.create(folder, RECIPE, "linear-regression")
    check_pilot(folder, changed_recipe(RECIPE, {"execution.device": "cpu"}, "test"))
    longer = changed_recipe(RECIPE, {"outer.iterations": 7}, "test")
    with pytest.raises(RunError, match=r"outer\.iterations \(\d+ there, 7 here\).*Name another --dir, or delete this"):
        check_pilot(folder, longer)


def test_a_pilot_that_diverged_is_worse_than_any_other_and_one_that_is_not_done_has_no_loss(tmp_path):
    folder = tmp_path / "pilot"
    assert pilot_report(folder) is None
    assert pilot_loss(folder) is None
    run = RunDirectory.create(folder, RECIPE, "linear-regression")
    assert pilot_loss(folder) is None
    run.write_json(DIVERGED, {"reason": "a loss is NaN"})
    assert pilot_loss(folder) == math.inf
