"""What a reproduction runs, and what of it is open."""

from dataclasses import replace
from pathlib import Path

import pytest

from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.decisions import HOLDS, NO_EFFECT, UNDECIDED
from mamlcli.studies.claims.premise import PremiseRecord
from mamlcli.studies.claims.reproduction import (
    PILOTS_PART,
    PREMISE_PART,
    open_rows,
    seconds_of_parts,
    seconds_of_values,
    sweep_of,
    value_of_cell,
)
from mamlcli.studies.claims.scales import SCALES
from mamlcli.studies.sweeps.collapsed_control import ControlRecord
from mamlcli.studies.sweeps.sweep import cells_of
from tests.helpers.decided import claim, row
from tests.helpers.reproductions import LINREG, tiny_plan


@pytest.mark.parametrize("name", ["smoke", "laptop", "evening"])
def test_every_value_has_the_rate_of_its_family_in_every_cell(name):
    for family in SCALES[name]().families:
        _, recipe = load_recipe(family.recipe, family.changes)
        for cell in cells_of(sweep_of(family, first_seed=100, num_seeds=1)):
            first = family.first_rates.get(cell.value.label, recipe.inner.lr)
            wanted = family.rates.get(cell.value.label, first)
            assert cell.recipe.inner.lr == wanted, (family.key, cell.value.label)


def test_a_cell_has_what_its_value_says_and_tasks_of_its_own_seed():
    value = CellValue(2, 3, "kfo", width=8)
    family = replace(
        LINREG,
        recipe="glyphs-5way-1shot",
        changes=(),
        values=(value,),
        rates={value.key: 0.7},
        more={value.key: {"inner.steps": 3}},
    )
    cells = cells_of(sweep_of(family, first_seed=200, num_seeds=2))
    assert [cell.seed for cell in cells] == [200, 201]
    assert [cell.recipe.evaluation.seed for cell in cells] == [200, 201]
    recipe = cells[0].recipe
    assert (recipe.model.depth, recipe.model.linear_layers, recipe.model.width) == (2, 3, 8)
    assert (recipe.inner.transform.name, recipe.inner.lr, recipe.inner.steps) == ("kfo", 0.7, 3)
    assert cells[0].name == "depth-2-width-8-3-linear-layers-kfo-seed-200"


def test_layers_are_collapsed_where_a_family_appends_some():
    assert not sweep_of(LINREG, first_seed=100, num_seeds=1).with_collapse
    stacked = replace(LINREG, values=(CellValue(1), CellValue(1, 2)))
    assert sweep_of(stacked, first_seed=100, num_seeds=1).with_collapse
    # No prediction is about them collapsed before they adapt.
    assert tiny_plan(families=(stacked,)).control_tasks(stacked) == 0
    assert sweep_of(replace(stacked, role="maml"), first_seed=100, num_seeds=1, control_tasks=7).control_tasks == 7


def test_open_are_predictions_that_decide_an_undecided_claim_and_do_not_hold():
    rows = [
        row("holds", HOLDS),
        row("open", UNDECIDED),
        row("waits for Holm", NO_EFFECT),
        row("beside", UNDECIDED, decides=False),
    ]
    assert [open_row.contrast.key for open_row in open_rows([claim(UNDECIDED, rows)])] == ["open", "waits for Holm"]
    assert open_rows([claim(HOLDS, rows), claim(NO_EFFECT, rows)]) == []


def test_seconds_are_the_mean_of_a_values_runs():
    from tests.helpers.decided import study_with_runs

    with study_with_runs({"depth 1": [10.0, 20.0], "depth 2": [5.0]}) as study:
        assert seconds_of_values(study) == {"depth 1": 15.0, "depth 2": 5.0}
        assert [value_of_cell(cell).key for cell in study.result.cells] == ["depth 1", "depth 2"]


def test_parts_of_the_cost_have_controls_the_premise_and_pilots(tmp_path):
    from tests.helpers.decided import study_with_runs

    premise = PremiseRecord(1, 4, 10, 15, 0.8, 0.7, 100, 100, 0, 10, 0.1, 0.02, wall_s=40.0)
    pilot = tmp_path / "pilots" / "linear-regression" / "depth-1-lr0.4-seed-1"
    pilot.parent.mkdir(parents=True)
    RunDirectory.create(pilot, load_recipe("linear-regression", [])[1], "x").update_manifest({"wall_s": 7.0})
    with study_with_runs({"depth 1": [10.0, 20.0], "depth 2": [5.0]}) as study:
        assert seconds_of_parts(tmp_path / "none", [study]) == {"linear regression": 35.0}
        control = ControlRecord(((0.1, 1.0),), 0.1, 6, 8, 1.0, None, 1.0, wall_s=3.5)
        RunDirectory(Path(study.result.cells[0].run_dirs[0])).write_json("control.json", control.to_json())
        parts = seconds_of_parts(tmp_path, [replace(study, premises=(premise,))])
    assert parts == {"linear regression": 38.5, PREMISE_PART: 40.0, PILOTS_PART: 7.0}
