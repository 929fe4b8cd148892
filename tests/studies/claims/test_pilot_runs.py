"""The run directory of one pilot."""

import math

import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.pilot_runs import (
    DIVERGED,
    check_pilot,
    pilot_loss,
    pilot_report,
    pilots_command,
    pilots_words,
)

RECIPE = load_recipe("linear-regression")[1]


def test_a_pilot_of_another_recipe_is_refused_with_what_differs_wherever_it_computed(tmp_path):
    folder = tmp_path / "pilot"
    check_pilot(folder, RECIPE)  # there is none
    RunDirectory.create(folder, RECIPE, "linear-regression")
    check_pilot(folder, changed_recipe(RECIPE, {"execution.device": "cpu"}, "test"))
    longer = changed_recipe(RECIPE, {"outer.iterations": 7}, "test")
    with pytest.raises(RunError, match=r"outer\.iterations \(\d+ there, 7 here\).*Name another --dir, or delete this"):
        check_pilot(folder, longer)


def test_how_far_pilots_have_come_is_told_with_the_command_that_goes_on(tmp_path):
    words = ["mamlcli", "reproduce", "--dir", "x"]
    for name in ("a", "b"):
        run = RunDirectory.create(tmp_path / "glyphs-maml" / name, RECIPE, "linear-regression")
        run.write_json("manifest.json", {**run.manifest.to_json(), "argv": words})
    run.write_json(DIVERGED, {"reason": "a loss is NaN"})
    assert "1 of 2 begun are done (glyphs-maml)" in pilots_words(tmp_path)
    assert pilots_command(tmp_path) == "Go on with its pilots: mamlcli reproduce --dir x"


def test_a_pilot_that_diverged_is_worse_than_any_other_and_one_that_is_not_done_has_no_loss(tmp_path):
    folder = tmp_path / "pilot"
    assert pilot_report(folder) is None
    assert pilot_loss(folder) is None
    run = RunDirectory.create(folder, RECIPE, "linear-regression")
    assert pilot_loss(folder) is None
    run.write_json(DIVERGED, {"reason": "a loss is NaN"})
    assert pilot_loss(folder) == math.inf
