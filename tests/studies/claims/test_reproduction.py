"""What a reproduction runs, and what of it is open."""

from dataclasses import replace

import pytest

from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.decisions import HOLDS, NO_EFFECT, UNDECIDED
from mamlcli.studies.claims.reproduction import Rest, open_rows, seconds_of_values, sweep_of, value_of_cell, wall_s
from mamlcli.studies.claims.scales import SCALES
from mamlcli.studies.sweeps.sweep import cells_of
from tests.helpers.decided import claim, row
from tests.helpers.reproductions import LINREG


@pytest.mark.parametrize("name", ["smoke", "laptop", "evening"])
def test_every_value_has_the_rate_of_its_family_in_every_cell(name):
    for family in SCALES[name]().families:
        for cell in cells_of(sweep_of(family, first_seed=100, num_seeds=1)):
            wanted = family.rates.get(cell.value.label, family.first_rates.get(cell.value.label))
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
    assert not sweep_of(stacked, first_seed=100, num_seeds=1).with_control
    assert sweep_of(replace(stacked, role="maml"), first_seed=100, num_seeds=1).with_control


def test_open_are_predictions_that_decide_an_undecided_claim_and_do_not_hold():
    rows = [
        row("holds", HOLDS),
        row("open", UNDECIDED),
        row("waits for Holm", NO_EFFECT),
        row("beside", UNDECIDED, decides=False),
    ]
    assert [open_row.contrast.key for open_row in open_rows([claim(UNDECIDED, rows)])] == ["open", "waits for Holm"]
    assert open_rows([claim(HOLDS, rows), claim(NO_EFFECT, rows)]) == []


def test_a_rest_of_more_than_a_thousand_seeds_is_not_practical():
    assert Rest(40, 1.0).is_practical
    assert not Rest(1001, 20.0).is_practical
    assert not Rest(None, None).is_practical


def test_seconds_are_the_mean_of_a_values_runs():
    from tests.helpers.decided import study_with_runs

    with study_with_runs({"depth 1": [10.0, 20.0], "depth 2": [5.0]}) as study:
        assert seconds_of_values(study) == {"depth 1": 15.0, "depth 2": 5.0}
        assert wall_s([study]) == 35.0
        assert [value_of_cell(cell).key for cell in study.result.cells] == ["depth 1", "depth 2"]
